//! Requests to serve: prompts that share a beginning, that come while others run, and that are answered in several ways.

use crate::scheduler::Settings;
use crate::sequence::Request;
use crate::speculate::Speculation;

/// What every conversation begins with.
const SYSTEM: &str = "You are a careful assistant that answers in full sentences, says where its knowledge ends, and never repeats itself. \
    Keep answers short unless you are asked for more, and begin each of them with what matters most. ";
/// A long text to ask about.
const STORY: &str = "The lighthouse stood where the river met the sea, and its keeper counted ships by their lamps. In winter there were few, and he \
    wrote down the colour of each; in summer he only drew a line for every ten. When the books were full he carried them to the village, where \
    nobody read them, and where they were kept all the same. ";

/// Requests, and an engine with too few pages for all of them at a time, so that somebody has to leave.
pub struct Workload {
    pub requests: Vec<Request>,
    pub settings: Settings,
}

/// Enough to meet everything that a scheduler does.
pub fn everything() -> Workload {
    let ask = |question: &str| format!("{SYSTEM}{question}");
    let requests = vec![
        request(&ask("Who keeps the light?"), 40, 0).forked(3, 2),
        request(&ask("How many ships came in the winter of the year before?"), 24, 0),
        request("Good day", 12, 1),
        // Long enough to choose among blocks that it has written itself.
        request(&SYSTEM[..100], 84, 1),
        request(&STORY[..118], 28, 1).forked(14, 3),
        request(&format!("{SYSTEM}{}", &STORY[..130]), 12, 2),
        request(&ask("Who keeps the light?"), 14, 6),
        request(STORY, 10, 8),
    ];
    Workload {
        requests,
        settings: settings(8, 20, 18),
    }
}

/// As little as meets it, for devices that are slow.
pub fn little() -> Workload {
    let requests = vec![
        request(&SYSTEM[..184], 11, 0).forked(2, 2),
        request(&STORY[..20], 12, 0),
        request(&SYSTEM[..140], 10, 2),
    ];
    Workload {
        requests,
        settings: settings(4, 6, 8),
    }
}

fn settings(batch: usize, pages: usize, slots: usize) -> Settings {
    Settings {
        speculation: Speculation::Off,
        batch,
        shares: true,
        pages,
        slots,
    }
}

fn request(prompt: &str, tokens: usize, arrives: usize) -> Request {
    Request {
        prompt: prompt.as_bytes().to_vec(),
        tokens,
        fork_at: 0,
        ranks: vec![0],
        arrives,
    }
}

impl Request {
    /// With so many answers, which part at a token.
    fn forked(mut self, at: usize, answers: usize) -> Request {
        self.fork_at = at;
        self.ranks = (0..answers).collect();
        self
    }
}
