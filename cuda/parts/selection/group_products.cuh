// The products of block selection: compressed keys × the columns of a warpgroup, which takes turns with another one.
#pragma once

#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "parts/published_ring.cuh"
#include "parts/selection/group_tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

using RowRing = PublishedRing<GroupTile::STAGES, GroupTile::GROUP_WARPS>;
using GroupLogits = Accumulator<GroupTile::COLUMNS>;

// Of each group, a name of its own for the price list, which tells their loops apart by it.
DEVICE void wait_turn_0(uint32_t turn, uint32_t parity) { wait_mbarrier(turn, parity); }
DEVICE void wait_turn_1(uint32_t turn, uint32_t parity) { wait_mbarrier(turn, parity); }
DEVICE void pass_turn_to_0(uint32_t turn) { arrive_mbarrier(turn); }
DEVICE void pass_turn_to_1(uint32_t turn) { arrive_mbarrier(turn); }

// The products of a group, each of half the rows of all its warps' turns. Groups start theirs in turn: in step with each other they would
// share the tensor cores and then leave them alone.
template <class T, int DIM, int GROUP>
struct GroupProducts {
    RowRing ring;
    uint32_t rows, query;  // shared addresses
    uint32_t turns;        // of a barrier for each group's turns
    bool alternates;       // the other group has tokens too
    uint32_t turn = 0;     // parity of the group's next turn
    StageCursor<GroupTile::STAGES> at = {};

    // Called by both groups before the first product.
    DEVICE void begin() const {
        if (GROUP == 1) pass_turn();
    }
    DEVICE void wait_filled() const { ring.wait_filled(at); }
    DEVICE void start(GroupLogits& logits, int half) {
        const RowTile<DIM> tile{uniform(rows + static_cast<uint32_t>(at.stage) * RowTile<DIM>::BYTES)};
        wait_turn();
        fence_products();
        start_product_shared_nk<T, GroupTile::COLUMNS>(logits, tile, half * GroupTile::HALF_ROWS, QueryTile<DIM>{query}, 0, false);
        commit_products();
        pass_turn();
    }
    // Both products of the step have been waited for.
    DEVICE void leave() {
        ring.release(at.stage);
        at.advance();
    }

  private:
    DEVICE void wait_turn() {
        if (!alternates) return;
        if constexpr (GROUP == 0) wait_turn_0(turns, turn);
        if constexpr (GROUP == 1) wait_turn_1(turns + sizeof(uint64_t), turn);
        turn ^= 1;
    }
    DEVICE void pass_turn() const {
        if (!alternates || lane_index() != 0) return;
        if constexpr (GROUP == 0) pass_turn_to_1(turns + sizeof(uint64_t));
        if constexpr (GROUP == 1) pass_turn_to_0(turns);
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
