//! The views of a launch, each named once: what the memory checks, the adapters and the languages other than Rust go by.

use std::ops::Range;

use super::checks;
use crate::operations::{CompressedStore, Keys, Sequences, SwitchLen};
use crate::tensor::MemorySpace;
use crate::{Error, Result, Tensor, TensorMut};

/// The most views that a launch has.
const MAX_VIEWS: usize = 24;

/// Every view of a launch, with the name of its argument, and whether it is written. Made on the stack: launches do not allocate.
#[derive(Debug, Clone)]
pub struct Views<'a> {
    views: [Option<View<'a>>; MAX_VIEWS],
    count: usize,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) name: &'static str,
    pub(crate) tensor: Tensor<'a>,
    pub(crate) is_written: bool,
}

impl<'a> Views<'a> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            views: [None; MAX_VIEWS],
            count: 0,
        }
    }

    /// Adds a view that kernels read, if there is one.
    pub(crate) fn read(self, name: &'static str, view: impl Into<Option<Tensor<'a>>>) -> Self {
        self.add(name, view.into(), false)
    }

    /// Adds a view that kernels write, if there is one.
    pub(crate) fn written(self, name: &'static str, view: impl Into<Option<&'a TensorMut<'a>>>) -> Self {
        self.add(name, view.into().map(TensorMut::as_tensor), true)
    }

    /// Adds the lengths of the keys, and what says where they lie.
    pub(crate) fn keys(self, keys: &Keys<'a>) -> Self {
        keys.views()
            .into_iter()
            .fold(self, |views, (name, view)| views.read(name, view))
    }

    /// Adds what says where compressed keys lie that have a store of their own.
    pub(crate) fn compressed(self, store: &'a Option<CompressedStore<'a>>) -> Self {
        let (name, view) = CompressedStore::view(store);
        self.read(name, view)
    }

    /// Adds the lengths of queries and keys.
    pub(crate) fn sequences(self, sequences: &Sequences<'a>) -> Self {
        let Sequences {
            cu_seqlens_q,
            keys,
            max_seqlen_q: _,
            max_seqlen_k: _,
        } = sequences;
        self.read("cu_seqlens_q", *cu_seqlens_q).keys(keys)
    }

    /// Adds the lengths that decide between dense and sparse, if they are a tensor.
    pub(crate) fn switch_len(self, switch_len: &Option<SwitchLen<'a>>) -> Self {
        match *switch_len {
            Some(SwitchLen::Lengths(lengths)) => self.read("switch_len", lengths),
            Some(SwitchLen::Keys) | None => self,
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &View<'a>> {
        self.views.iter().flatten()
    }

    /// Refuses views that lie elsewhere than in `space`, and views that share an element with one that is written.
    pub(crate) fn check(&self, space: MemorySpace) -> Result<()> {
        if self.count > MAX_VIEWS {
            let why = format!("a launch has room for {MAX_VIEWS}");
            return Err(Error::unsupported(format!("a launch of {} views", self.count), why));
        }
        for view in self.iter() {
            checks::memory_space(view.name, &view.tensor, space)?;
        }
        for (index, written) in self.iter().enumerate().filter(|(_, view)| view.is_written) {
            // A pair of written views is looked at once, from the first of them.
            let is_other = |&(other, view): &(usize, &View<'_>)| other > index || !view.is_written;
            for (_, other) in self.iter().enumerate().filter(is_other) {
                checks::disjoint(written.name, &written.tensor, other.name, &other.tensor)?;
            }
        }
        Ok(())
    }

    /// Refuses a view of other memory than an adapter holds, which says so of the addresses that a view reaches.
    #[doc(hidden)]
    pub fn check_held(&self, is_held: impl Fn(&Range<u64>) -> bool) -> Result<()> {
        let is_foreign = |view: &&View<'_>| {
            let start = view.tensor.address();
            !view.tensor.is_empty() && !is_held(&(start..start.saturating_add(view.tensor.extent())))
        };
        match self.iter().find(is_foreign) {
            None => Ok(()),
            Some(view) => Err(Error::argument(view.name, "a view made by this launch", view.tensor)),
        }
    }

    fn add(mut self, name: &'static str, tensor: Option<Tensor<'a>>, is_written: bool) -> Self {
        let Some(tensor) = tensor else { return self };
        if let Some(slot) = self.views.get_mut(self.count) {
            *slot = Some(View {
                name,
                tensor,
                is_written,
            });
        }
        self.count += 1;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn more_views_than_there_is_room_for_are_refused() {
        let values = [0f32];
        let tensor = Tensor::from_slice(&values, &[1]).unwrap();
        let views = |count| (0..count).fold(Views::new(), |views, _| views.read("q", tensor));
        views(MAX_VIEWS).check(MemorySpace::Host).unwrap();
        let error = views(MAX_VIEWS + 1).check(MemorySpace::Host).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a launch of 25 views is not supported: a launch has room for 24"
        );
    }

    #[test]
    fn a_written_view_is_compared_with_every_other() {
        let at = |address, length| Tensor::contiguous(MemorySpace::Host, address, DType::F32, &[length]).unwrap();
        let (both, first, second) = (at(0x1000, 8), at(0x1000, 4), at(0x1010, 4));
        let part = TensorMut::unique(first).unwrap();
        let blamed = |views: Views<'_>| views.check(MemorySpace::Host).map_err(|error| error.to_string());
        blamed(Views::new().read("q", second).written("out", &part)).unwrap();
        blamed(Views::new().read("q", first).read("k", both)).unwrap();
        for views in [
            Views::new().read("q", first).written("out", &part),
            Views::new().written("out", &part).read("q", first),
            Views::new().written("out", &part).written("lse", &part),
        ] {
            assert!(
                blamed(views)
                    .unwrap_err()
                    .starts_with("out: expected memory apart from")
            );
        }
    }
}
