//! Barriers of blocks, and the warps that have arrived at them.

/// The barriers at which some warps are.
#[derive(Debug, Default)]
pub(super) struct Barriers(Vec<Meeting>);

#[derive(Debug)]
struct Meeting {
    block: usize,
    name: String,
    /// How many warps it takes; 0: all of the block that are not done.
    warps: usize,
    there: Vec<usize>,
}

impl Barriers {
    /// Warp `number` of `block` arrives.
    pub(super) fn arrive(&mut self, number: usize, block: usize, name: &str, warps: usize) {
        let is_same = |meeting: &&mut Meeting| meeting.block == block && meeting.name == name && meeting.warps == warps;
        match self.0.iter_mut().find(is_same) {
            Some(meeting) => meeting.there.push(number),
            None => self.0.push(Meeting {
                block,
                name: name.to_owned(),
                warps,
                there: vec![number],
            }),
        }
    }

    /// The warps at a barrier that is complete. `alive` counts the warps of a block that are not done.
    pub(super) fn take_complete(&mut self, alive: impl Fn(usize) -> usize) -> Option<Vec<usize>> {
        let is_complete = |meeting: &Meeting| {
            let expected = match meeting.warps {
                0 => alive(meeting.block),
                warps => warps,
            };
            meeting.there.len() >= expected
        };
        let at = self.0.iter().position(is_complete)?;
        Some(self.0.swap_remove(at).there)
    }
}
