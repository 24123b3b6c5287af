//! Speculative steps: append, select, attend, commit, compress over trees of drafts leave what plain decoding of the accepted paths leaves.

use sala_kernels::reference::compress_keys::Window;
use sala_kernels::reference::select_blocks::Config;
use sala_kernels::{
    AppendKeysArgs, AttentionShape, CommitKeysArgs, CompressKeysArgs, Entry, Result, SelectBlocksArgs, Sequences,
    SparseAttentionArgs, SparseLayer, Status,
};
use sala_testkit::batch::Trees;
use sala_testkit::devices::{Machine, all};
use sala_testkit::memory::{Memory, Packing};
use sala_testkit::numbers::{Numbers, cumulative, normals};
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::launch;
use sala_testkit::property::seed;
use sala_testkit::storage::{Content, KeyRows, Storage, keys};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

const PRECISION: Precision = Precision::Bf16;
/// Drafts of each sequence.
const DRAFTS: usize = 11;
/// Keys before them: none, fewer than a window of K1, up to the end of a block, and more blocks than a list has.
const PAST: [usize; 5] = [0, 27, 250, 760, 1340];
/// Sequences whose lists have room for every block, so that drafts see what decoding sees.
const SHORT: usize = 3;

/// Sequences that are decoded, with their keys and what is made of them.
struct Engine<'m> {
    machine: &'m Machine,
    layer: SparseLayer,
    config: Config,
    storage: Storage,
    /// Of the room that sequences have.
    bounds: Vec<i32>,
    store: Memory,
    lengths: Vec<i32>,
    /// k, v and q of all tokens that there may be: past, drafts, and the token after them.
    numbers: [Values; 3],
}

impl<'m> Engine<'m> {
    /// With the prompts.
    fn new(machine: &'m Machine, storage: &Storage, seed: u64) -> Result<Self> {
        let config = small_config(4, 2, 64);
        let Config {
            heads_q,
            heads_kv,
            dim,
            block_size,
            ..
        } = config;
        let bounds = cumulative(&PAST.map(|past| past + DRAFTS + 1));
        let total = bounds[PAST.len()] as usize;
        let rows = |heads, index| normals(PRECISION, total * heads * dim, seed ^ index);
        let layer = SparseLayer::builder(PRECISION.dtype(), AttentionShape { heads_q, heads_kv, dim }, 0)
            .topk(config.topk)
            .local_blocks(config.local_blocks)
            .build()?;
        let mut store = Memory::new(&machine.device);
        let empty = |content| KeyRows::empty(storage.places(&bounds, content), heads_kv, dim);
        let compressed = |stride| empty(Content::Compressed { stride, block_size });
        let keys = empty(Content::Keys);
        store.add_keys(PRECISION, Packing::Separate, &[("k", &keys), ("v", &keys)])?;
        store.add_keys(PRECISION, Packing::Separate, &[("k1", &compressed(block_size / 4))])?;
        store.add_keys(PRECISION, Packing::Separate, &[("k2", &compressed(block_size))])?;
        storage.add_to(&mut store, &bounds, block_size)?;
        store.add("seqlens_k", &[PAST.len()], 0, Some(&[0i32; PAST.len()]))?;
        store.add("seqlens_old", &[PAST.len()], 0, Some(&[0i32; PAST.len()]))?;
        store.add_status()?;
        let mut engine = Engine {
            machine,
            layer,
            config,
            storage: storage.clone(),
            bounds,
            store,
            lengths: vec![0; PAST.len()],
            numbers: [rows(heads_kv, 0), rows(heads_kv, 1), rows(heads_q, 2)],
        };
        let prompts = engine.tokens(&PAST.map(|past| (0..past).collect()), None)?;
        engine.append(&prompts, PAST.map(|past| past as i32).into())?;
        engine.compress(&[0; PAST.len()])?;
        Ok(engine)
    }

    /// Tensors of some tokens of each sequence, which are counted within it.
    fn tokens(&self, tokens: &[Vec<usize>], trees: Option<&Trees>) -> Result<Memory> {
        let Config {
            heads_q, heads_kv, dim, ..
        } = self.config;
        let of_sequence =
            |(tokens, &first): (&Vec<usize>, &i32)| tokens.iter().map(move |token| first as usize + token).collect();
        let picked: Vec<Vec<usize>> = tokens.iter().zip(&self.bounds).map(of_sequence).collect();
        let (picked, total) = (picked.concat(), self.bounds[PAST.len()] as usize);
        let mut memory = Memory::new(&self.machine.device);
        let [k, v, q] = [0, 1, 2].map(|index| self.numbers[index].pick(total, &picked));
        let (few, many) = ([picked.len(), heads_kv, dim], [picked.len(), heads_q, dim]);
        memory.add_values("k_new", PRECISION, &few, 0, Some(&k))?;
        memory.add_values("v_new", PRECISION, &few, 0, Some(&v))?;
        memory.add_values("q", PRECISION, &many, 0, Some(&q))?;
        memory.add_values("out", PRECISION, &many, 0, None)?;
        memory.add::<i32>(
            "block_indices",
            &[picked.len(), heads_kv, self.layer.list_len()],
            0,
            None,
        )?;
        let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
        memory.add("cu_seqlens_q", &[PAST.len() + 1], 0, Some(&cumulative(&lengths)))?;
        let size = |keys| self.layer.workspace_size(Entry::Decode, PAST.len(), DRAFTS, keys, None);
        memory.add::<u32>("workspace", &[size(self.storage.capacity(&self.bounds)) / 4], 0, None)?;
        if let Some(Trees { parent, columns }) = trees {
            memory.add("parent", &[PAST.len(), *columns], 0, Some(parent))?;
        }
        Ok(memory)
    }

    fn sequences<'a>(&'a self, tokens: &'a Memory) -> Sequences<'a> {
        let mut sequences = Sequences::new(tokens.tensor("cu_seqlens_q"), keys(&self.store));
        sequences.max_seqlen_q = Some(DRAFTS);
        sequences
    }

    fn set_lengths(&mut self, lengths: Vec<i32>) -> Result<()> {
        self.store.write("seqlens_k", &lengths)?;
        self.store.take_back();
        self.lengths = lengths;
        Ok(())
    }

    fn append(&mut self, tokens: &Memory, lengths: Vec<i32>) -> Result<()> {
        self.set_lengths(lengths)?;
        let [k, v] = ["k", "v"].map(|name| self.store.tensor_mut(name));
        let mut sequences = Sequences::new(tokens.tensor("cu_seqlens_q"), keys(&self.store));
        sequences.max_seqlen_q = None;
        let mut args = AppendKeysArgs::new(tokens.tensor("k_new"), tokens.tensor("v_new"), k, v, sequences);
        args.status = self.store.get_mut("status");
        launch(self.machine, &self.layer, args).map(drop)
    }

    fn compress(&mut self, old: &[i32]) -> Result<()> {
        self.store.write("seqlens_old", old)?;
        self.store.take_back();
        let [k1, k2] = ["k1", "k2"].map(|name| self.store.tensor_mut(name));
        let mut args = CompressKeysArgs::new(self.store.tensor("k"), keys(&self.store), k1, k2);
        args.compressed = self.storage.compressed(&self.store, self.config.block_size);
        args.seqlens_old = Some(self.store.tensor("seqlens_old"));
        args.status = self.store.get_mut("status");
        launch(self.machine, &self.layer, args).map(drop)
    }

    /// Selects for tokens that are appended, and attends. Gives lists and outputs.
    fn attend(&mut self, tokens: &mut Memory) -> Result<(Vec<i32>, Values)> {
        self.store.take_back();
        tokens.take_back();
        let lists = tokens.tensor_mut("block_indices");
        let [k1, k2] = ["k1", "k2"].map(|name| self.store.tensor(name));
        let mut args = SelectBlocksArgs::new(tokens.tensor("q"), k1, Some(k2), self.sequences(tokens), None, lists);
        args.compressed = self.storage.compressed(&self.store, self.config.block_size);
        args.entry = Entry::Decode;
        args.parent = tokens.get("parent");
        args.workspace = tokens.get_mut("workspace");
        args.status = self.store.get_mut("status");
        launch(self.machine, &self.layer, args)?;
        self.store.take_back();
        tokens.take_back();
        let [k, v] = ["k", "v"].map(|name| self.store.tensor(name));
        let (lists, out) = (tokens.tensor("block_indices"), tokens.tensor_mut("out"));
        let mut args = SparseAttentionArgs::new(tokens.tensor("q"), k, v, self.sequences(tokens), None, lists, out);
        args.entry = Entry::Decode;
        args.parent = tokens.get("parent");
        args.workspace = tokens.get_mut("workspace");
        args.status = self.store.get_mut("status");
        launch(self.machine, &self.layer, args)?;
        Ok((tokens.read("block_indices")?, tokens.values("out")?))
    }

    /// One token of each sequence that has one.
    fn decode(&mut self, tokens: &[Vec<usize>]) -> Result<(Vec<i32>, Values)> {
        let old = self.lengths.clone();
        let lengths = old.iter().zip(tokens).map(|(old, tokens)| old + tokens.len() as i32);
        let mut memory = self.tokens(tokens, None)?;
        self.append(&memory, lengths.collect())?;
        self.compress(&old)?;
        self.attend(&mut memory)
    }

    /// All drafts of trees; then those of `paths` are accepted. Gives the outputs of all.
    fn speculate(&mut self, trees: &Trees, paths: &[Vec<i32>]) -> Result<Values> {
        let base = self.lengths.clone();
        let mut memory = self.tokens(&PAST.map(|past| (past..past + DRAFTS).collect()), Some(trees))?;
        self.append(&memory, base.iter().map(|base| base + DRAFTS as i32).collect())?;
        let (_, out) = self.attend(&mut memory)?;
        let accepted: Vec<i32> = paths.iter().map(|path| path.len() as i32).collect();
        let padded = |path: &Vec<i32>| [&path[..], &vec![i32::MIN; DRAFTS - path.len()]].concat();
        let path: Vec<i32> = paths.iter().flat_map(padded).collect();
        let mut committed = Memory::new(&self.machine.device);
        committed.add("base", &[PAST.len()], 0, Some(&base))?;
        committed.add("accepted", &[PAST.len()], 0, Some(&accepted))?;
        committed.add("path", &[PAST.len(), DRAFTS], 0, Some(&path))?;
        self.store.take_back();
        let [k, v] = ["k", "v"].map(|name| self.store.tensor_mut(name));
        let [base_of, accepted_of, path] = ["base", "accepted", "path"].map(|name| committed.tensor(name));
        let mut args = CommitKeysArgs::new(k, v, keys(&self.store), base_of, accepted_of, path);
        args.status = self.store.get_mut("status");
        launch(self.machine, &self.layer, args)?;
        self.set_lengths(
            base.iter()
                .zip(&accepted)
                .map(|(base, accepted)| base + accepted)
                .collect(),
        )?;
        self.compress(&base)?;
        Ok(out)
    }

    /// k, v, K1 and K2 of each sequence, as far as they are complete.
    fn contents(&self) -> Result<Vec<[Vec<u16>; 4]>> {
        let block_size = self.config.block_size;
        let read = |name, content, sequence, rows| -> Result<Vec<u16>> {
            let places = self.storage.places(&self.bounds, content);
            Ok(self.store.keys(name, &places)?.rows(sequence, rows))
        };
        let of_sequence = |(sequence, &length): (usize, &i32)| {
            let length = length as usize;
            let compressed = |name, window: Window| {
                let stride = window.stride;
                read(
                    name,
                    Content::Compressed { stride, block_size },
                    sequence,
                    window.rows(length),
                )
            };
            Ok([
                read("k", Content::Keys, sequence, length)?,
                read("v", Content::Keys, sequence, length)?,
                compressed("k1", Window::fine(block_size))?,
                compressed("k2", Window::coarse(block_size))?,
            ])
        };
        self.lengths.iter().enumerate().map(of_sequence).collect()
    }
}

/// The draft and its ancestors, first the oldest.
fn path_to(parent: &[i32], mut draft: i32) -> Vec<i32> {
    let mut path = Vec::new();
    while let Ok(index) = usize::try_from(draft) {
        path.insert(0, draft);
        draft = parent[index];
    }
    path
}

#[test]
fn a_speculative_step_is_decoding_what_it_accepts() -> Result<()> {
    let mut numbers = Numbers::new(seed());
    println!("SALA_TEST_SEED={}", seed());
    let room = PAST[PAST.len() - 1] + DRAFTS + 1;
    for machine in all() {
        for storage in [
            Storage::Cached(room),
            Storage::Indexed(room),
            Storage::paged(64),
            Storage::paged(4),
        ] {
            let what = format!("{}: {storage:?}", machine.name);
            let from = numbers.bits();
            let trees = Trees::random(&mut numbers, PAST.len(), DRAFTS);
            let paths: Vec<Vec<i32>> = (0..PAST.len())
                .map(|sequence| path_to(&trees.one(sequence).parent, numbers.below(DRAFTS + 1) as i32 - 1))
                .collect();
            let mut speculative = Engine::new(&machine, &storage, from)?;
            let drafted = speculative.speculate(&trees, &paths)?;

            let mut plain = Engine::new(&machine, &storage, from)?;
            let longest = paths.iter().map(Vec::len).max().unwrap_or(0);
            for depth in 0..longest {
                let draft_of = |path: &Vec<i32>| path.get(depth).map(|&draft| draft as usize);
                let drafts: Vec<Option<usize>> = paths.iter().map(draft_of).collect();
                let tokens = drafts
                    .iter()
                    .zip(PAST)
                    .map(|(draft, past)| draft.iter().map(|draft| past + draft).collect());
                let (_, out) = plain.decode(&tokens.collect::<Vec<_>>())?;
                // In short sequences the draft has seen the same keys, in other pieces.
                let decoded: Vec<(usize, usize)> = (0..)
                    .zip(&drafts)
                    .filter_map(|(i, draft)| draft.map(|draft| (i, draft)))
                    .collect();
                for (row, &(sequence, draft)) in decoded
                    .iter()
                    .enumerate()
                    .filter(|(_, (sequence, _))| *sequence < SHORT)
                {
                    let expected = out.rows(decoded.len(), row..row + 1).to_f64();
                    let index = sequence * DRAFTS + draft;
                    let got = drafted.rows(PAST.len() * DRAFTS, index..index + 1).to_f64();
                    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
                    let error: Vec<f64> = got.iter().zip(&expected).map(|(a, b)| a - b).collect();
                    assert!(
                        norm(&error) <= 0.02 * norm(&expected),
                        "{what}: sequence {sequence}, draft {draft}"
                    );
                }
            }
            assert_eq!(speculative.lengths, plain.lengths, "{what}");
            assert!(
                speculative.contents()? == plain.contents()?,
                "{what}: keys or rows of K1 and K2 differ"
            );
            // The token after the drafts, whatever was accepted.
            let next: Vec<Vec<usize>> = PAST.map(|past| vec![past + DRAFTS]).into();
            let [got, expected] = [speculative.decode(&next)?, plain.decode(&next)?];
            assert_eq!(got.0, expected.0, "{what}: lists of the next step");
            assert_eq!(got.1.to_bits(), expected.1.to_bits(), "{what}: the next step");
            assert!(
                speculative.contents()? == plain.contents()?,
                "{what}: after the next step"
            );
            for engine in [&mut speculative, &mut plain] {
                // What any launch has written.
                engine.store.take_back();
                drop(["k", "v", "k1", "k2", "status"].map(|name| engine.store.tensor_mut(name)));
                assert_eq!(engine.store.status()?, Status::default(), "{what}");
                assert!(engine.store.is_intact()?, "{what}");
            }
        }
    }
    Ok(())
}
