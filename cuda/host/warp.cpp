// The host half of machine/warp.cuh.
#include "machine/warp.cuh"

#include "host/collective.h"

namespace sala::host {

namespace {

struct ShuffleArgument {
    Shuffle kind;
    uint32_t bits;
    int operand;
    uint32_t result;
};

// The lane whose value lane `lane` gets; a shift that leaves the warp stays.
int source_lane(Shuffle kind, int lane, int operand) {
    int source = lane;
    switch (kind) {
        case Shuffle::INDEX:
            return operand & (WARP_SIZE - 1);
        case Shuffle::XOR:
            source = lane ^ operand;
            break;
        case Shuffle::UP:
            source = lane - operand;
            break;
        case Shuffle::DOWN:
            source = lane + operand;
            break;
    }
    return source < 0 || source >= WARP_SIZE ? lane : source;
}

void perform_shuffle(Block&, Warp&, void* const* arguments) {
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        auto* mine = static_cast<ShuffleArgument*>(arguments[lane]);
        const int source = source_lane(mine->kind, lane, mine->operand);
        mine->result = static_cast<const ShuffleArgument*>(arguments[source])->bits;
    }
}

struct BallotArgument {
    bool predicate;
    uint32_t result;
};

void perform_ballot(Block&, Warp&, void* const* arguments) {
    uint32_t result = 0;
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        if (static_cast<const BallotArgument*>(arguments[lane])->predicate) result |= 1u << lane;
    }
    for (int lane = 0; lane < WARP_SIZE; ++lane) static_cast<BallotArgument*>(arguments[lane])->result = result;
}

void perform_sync(Block& block, Warp& warp, void* const*) {
    if (block.race != nullptr) block.race->join_warp(warp.index * WARP_SIZE);
}

struct ReduceArgument {
    Reduction kind;
    Number number;
    void* values;
    int count, lanes, stride;
};

float larger(float a, float b) { return a > b || b != b ? a : b; }  // drops a NaN
int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

float sum(float a, float b) { return a + b; }
uint32_t sum(uint32_t a, uint32_t b) { return a + b; }
int32_t sum(int32_t a, int32_t b) { return static_cast<int32_t>(sum(static_cast<uint32_t>(a), static_cast<uint32_t>(b))); }

template <class T>
void reduce_value(const ReduceArgument& shape, void* const* arguments, int index) {
    T values[WARP_SIZE];
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        values[lane] = static_cast<const T*>(static_cast<const ReduceArgument*>(arguments[lane])->values)[index];
    }
    for (int step = shape.stride; step < shape.lanes * shape.stride; step *= 2) {
        T combined[WARP_SIZE];
        for (int lane = 0; lane < WARP_SIZE; ++lane) {
            const T other = values[lane ^ step];
            combined[lane] = shape.kind == Reduction::SUM ? sum(values[lane], other) : larger(values[lane], other);
        }
        for (int lane = 0; lane < WARP_SIZE; ++lane) values[lane] = combined[lane];
    }
    for (int lane = 0; lane < WARP_SIZE; ++lane)
        static_cast<T*>(static_cast<ReduceArgument*>(arguments[lane])->values)[index] = values[lane];
}

void perform_reduce(Block&, Warp&, void* const* arguments) {
    const auto& shape = *static_cast<const ReduceArgument*>(arguments[0]);
    for (int i = 0; i < shape.count; ++i) {
        switch (shape.number) {
            case Number::FLOAT:
                reduce_value<float>(shape, arguments, i);
                break;
            case Number::INT:
                reduce_value<int32_t>(shape, arguments, i);
                break;
            case Number::UNSIGNED:
                reduce_value<uint32_t>(shape, arguments, i);
                break;
        }
    }
}

}  // namespace

uint32_t shuffle(Shuffle kind, uint32_t bits, int operand, Site site) {
    ShuffleArgument argument{kind, bits, operand, 0};
    meet(perform_shuffle, "shuffle", &argument, site);
    return argument.result;
}

uint32_t ballot(bool predicate, Site site) {
    BallotArgument argument{predicate, 0};
    meet(perform_ballot, "ballot", &argument, site);
    return argument.result;
}

void sync_warp(Site site) { meet(perform_sync, "sync_warp", nullptr, site); }

bool elect_lane(Site site) {
    meet([](Block&, Warp&, void* const*) {}, "elect_lane", nullptr, site);
    return running->current->lane == running->elected_lane;
}

void reduce(Reduction kind, Number number, void* values, int count, int lanes, int stride, Site site) {
    ReduceArgument argument{kind, number, values, count, lanes, stride};
    meet(perform_reduce, "reduce", &argument, site);
}

}  // namespace sala::host
