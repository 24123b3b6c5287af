//! Pictures of what was kept: where in the prompt, after every chunk.

use crate::prompt::HEADS;
use crate::{OfHeads, Schedule};
use std::fmt::Write;
use std::ops::Range;

/// Parts of the prompt that a row of the picture tells apart.
const PARTS: usize = 256;

// Paper and panels, in pixels.
const WIDTH: f64 = 1100.0;
const LEFT: f64 = 70.0;
const PANEL: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const TOP: f64 = 90.0;
const BETWEEN: f64 = 70.0;

const INK: &str = "#1f2328";
const FAINT: &str = "#656d76";
const NEEDLE: &str = "#d1242f";
/// Shades, and the share of a part's tokens up to which each is used.
const SHADES: [(&str, f64); 5] = [
    ("#e6effb", 0.02),
    ("#bcd5f5", 0.1),
    ("#7fb0ec", 0.3),
    ("#3f86de", 0.7),
    ("#0a3f94", 1.0),
];

/// How many tokens of each part of the prompt were kept, after every chunk.
pub struct History {
    tokens: usize,
    /// Of each chunk and head the counts of parts.
    rows: Vec<OfHeads<Vec<u32>>>,
}

impl History {
    pub fn new(schedule: &Schedule) -> History {
        History {
            tokens: schedule.tokens,
            rows: Vec::new(),
        }
    }

    /// Tokens of the prompt.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// What is kept after one more chunk.
    pub fn add(&mut self, positions: &OfHeads<Vec<usize>>) {
        let counts = positions.each_ref().map(|positions| {
            let mut counts = vec![0; PARTS];
            for &position in positions {
                counts[position * PARTS / self.tokens] += 1;
            }
            counts
        });
        self.rows.push(counts);
    }

    /// The share of tokens kept at the end in each of `columns` parts of the prompt.
    pub fn last(&self, head: usize, columns: usize) -> Vec<f64> {
        let Some(counts) = self.rows.last() else {
            return vec![0.0; columns];
        };
        let part = PARTS / columns;
        let tokens = self.tokens as f64 / columns as f64;
        counts[head]
            .chunks(part)
            .map(|counts| f64::from(counts.iter().sum::<u32>()) / tokens)
            .collect()
    }

    /// The picture as an SVG document: a panel for each head, in which chunks follow each other from top to bottom.
    pub fn svg(&self, schedule: &Schedule, needle: &Range<usize>) -> String {
        let height = TOP + HEADS as f64 * (HEIGHT + BETWEEN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"13\" fill=\"{INK}\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        let Schedule { budget, chunk, .. } = schedule;
        let title = format!(
            "{} tokens read in chunks of {chunk}, {budget} of them kept",
            self.tokens
        );
        text(&mut svg, LEFT, 30.0, INK, &title);
        self.legend(&mut svg);
        for head in 0..HEADS {
            self.panel(&mut svg, head, needle);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (shade, share) in SHADES {
            rectangle(svg, [x, 44.0, 14.0, 14.0], shade);
            text(svg, x + 19.0, 56.0, FAINT, &format!("up to {:.0} %", 100.0 * share));
            x += 110.0;
        }
        rectangle(svg, [x, 44.0, 2.0, 14.0], NEEDLE);
        text(svg, x + 9.0, 56.0, FAINT, "the needle");
    }

    fn panel(&self, svg: &mut String, head: usize, needle: &Range<usize>) {
        let top = TOP + head as f64 * (HEIGHT + BETWEEN);
        text(
            svg,
            LEFT,
            top - 8.0,
            INK,
            &format!("head {head}: share of the tokens there that are kept"),
        );
        let row_height = HEIGHT / self.rows.len().max(1) as f64;
        let tokens = self.tokens as f64 / PARTS as f64;
        for (row, counts) in self.rows.iter().enumerate() {
            let y = top + row as f64 * row_height;
            // Neighbours of one shade are one rectangle.
            let shades: Vec<_> = counts[head]
                .iter()
                .map(|&count| shade(f64::from(count) / tokens))
                .collect();
            let mut first = 0;
            for run in shades.chunk_by(|a, b| a == b) {
                if let Some(shade) = run[0] {
                    let x = |part: usize| LEFT + part as f64 / PARTS as f64 * PANEL;
                    rectangle(
                        svg,
                        [x(first), y, x(first + run.len()) - x(first), row_height + 0.2],
                        shade,
                    );
                }
                first += run.len();
            }
        }
        let x = LEFT + needle.start as f64 / self.tokens as f64 * PANEL;
        rectangle(svg, [x, top, 1.5, HEIGHT], NEEDLE);
        text(
            svg,
            LEFT,
            top + HEIGHT + 17.0,
            FAINT,
            "start of the prompt; first chunk above, last below",
        );
        text(svg, LEFT + PANEL - 25.0, top + HEIGHT + 17.0, FAINT, "end");
    }
}

/// The shade of a share; none of nothing.
fn shade(share: f64) -> Option<&'static str> {
    let fitting = SHADES.iter().find(|(_, most)| share <= *most);
    let (shade, _) = fitting.unwrap_or(&SHADES[SHADES.len() - 1]);
    (share > 0.0).then_some(shade)
}

fn rectangle(svg: &mut String, [x, y, width, height]: [f64; 4], fill: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, fill: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{fill}\">{text}</text>");
}
