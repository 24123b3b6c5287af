//! The picture: which blocks of the text each token reads, over the whole text and word by word for the question.

use std::fmt::Write;
use std::ops::Range;

/// What there is to draw.
pub struct Map<'a> {
    /// `[tokens, list_len]`: the blocks each token reads, −1 after the last.
    pub lists: &'a [i32],
    pub list_len: usize,
    pub block_size: usize,
    /// Blocks at the start that every token reads.
    pub init_blocks: usize,
    /// Blocks before its own that a token always reads.
    pub local_blocks: usize,
    /// Tokens of the hidden sentence.
    pub needle: Range<usize>,
    /// What is hidden, as a person wrote it.
    pub needle_text: &'a str,
    /// The first token of the lower panel, and one word for each of its rows.
    pub question: usize,
    pub question_words: &'a [String],
    /// Lines under the title.
    pub summary: [&'a str; 2],
}

// Paper and panels, in pixels.
const WIDTH: f64 = 1180.0;
const LEFT: f64 = 150.0;
const PANEL_WIDTH: f64 = 960.0;
const LEGEND: f64 = 98.0;
const LEGEND_LINE: f64 = 19.0;
const MAP_TOP: f64 = 155.0;
const MAP_HEIGHT: f64 = 560.0;
const WORD_HEIGHT: f64 = 18.0;
const BETWEEN: f64 = 118.0;

/// About the width of a letter of running text.
const LETTER: f64 = 7.0;

/// Rows of the upper panel: each stands for equally many tokens.
const MAP_ROWS: usize = 256;

const FORCED: &str = "#b8c4d6";
const NEEDLE: &str = "#d1242f";
const UNREAD: &str = "#f3f4f6";
const INK: &str = "#1f2328";
const FAINT: &str = "#656d76";
/// Shades of a chosen block, and the share of a row's tokens up to which each is used.
const CHOSEN: [&str; 4] = ["#d9e8fb", "#93bdf2", "#3f86de", "#0a3f94"];
const CHOSEN_UP_TO: [f64; 4] = [1.0 / 16.0, 1.0 / 8.0, 1.0 / 4.0, 1.0];

impl Map<'_> {
    /// The picture as an SVG document.
    pub fn svg(&self) -> String {
        let height = MAP_TOP + MAP_HEIGHT + BETWEEN + self.question_words.len() as f64 * WORD_HEIGHT + 70.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"13\" fill=\"{INK}\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        self.heading(&mut svg);
        self.whole_text(&mut svg);
        self.question_rows(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn tokens(&self) -> usize {
        self.lists.len() / self.list_len
    }

    fn blocks(&self) -> usize {
        self.tokens().div_ceil(self.block_size)
    }

    fn block_x(&self, block: f64) -> f64 {
        LEFT + block / self.blocks() as f64 * PANEL_WIDTH
    }

    fn needle_blocks(&self) -> Range<usize> {
        self.needle.start / self.block_size..(self.needle.end - 1) / self.block_size + 1
    }

    /// Title, summary and legend.
    fn heading(&self, svg: &mut String) {
        text(
            svg,
            LEFT,
            38.0,
            "font-size=\"22\" font-weight=\"bold\"",
            "Which blocks of the text does each token read?",
        );
        for (line, summary) in self.summary.iter().enumerate() {
            text(
                svg,
                LEFT,
                62.0 + 19.0 * line as f64,
                &format!("fill=\"{FAINT}\" font-size=\"14\""),
                summary,
            );
        }
        let blocks: [(&[&str], &str); 3] = [
            (&CHOSEN, "chosen by content, by few to most of a row's tokens"),
            (&[FORCED], "always read: first block, recent blocks"),
            (&[UNREAD], "skipped"),
        ];
        let needle: [(&[&str], &str); 1] = [(
            &[NEEDLE],
            "needle: the line down its block; in the lower panel its block, ringed, and the labels of the words that read it",
        )];
        legend_line(svg, LEGEND, &blocks);
        legend_line(svg, LEGEND + LEGEND_LINE, &needle);
    }

    /// The upper panel: all tokens down, all blocks across.
    fn whole_text(&self, svg: &mut String) {
        let tokens = self.tokens();
        let rows = MAP_ROWS.min(tokens);
        let row_height = MAP_HEIGHT / rows as f64;
        self.past(svg);
        let mut cells = Cells::default();
        for row in 0..rows {
            let range = row * tokens / rows..(row + 1) * tokens / rows;
            cells.add_row(MAP_TOP + row as f64 * row_height, row_height, &self.shades(range));
        }
        cells.draw(svg, |block| self.block_x(block as f64));
        self.needle_marker(svg);
        self.block_axis(
            svg,
            MAP_TOP + MAP_HEIGHT,
            "block of the text that is read (64 tokens each)",
        );
        self.token_axis(svg);
    }

    /// The triangle of blocks that lie in a token's past.
    fn past(&self, svg: &mut String) {
        let (right, bottom) = (LEFT + PANEL_WIDTH, MAP_TOP + MAP_HEIGHT);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {MAP_TOP}L{right} {bottom}H{LEFT}z\" fill=\"{UNREAD}\"/>"
        );
        let style = format!("fill=\"{FAINT}\" font-style=\"italic\" text-anchor=\"end\"");
        text(
            svg,
            right,
            MAP_TOP + MAP_HEIGHT * 0.62,
            &style,
            "the future: no token reads ahead",
        );
    }

    /// For each block how the tokens of a row read it.
    fn shades(&self, tokens: Range<usize>) -> Vec<Shade> {
        let mut chosen = vec![0; self.blocks()];
        let mut forced = vec![false; self.blocks()];
        for token in tokens.clone() {
            let own = token / self.block_size;
            for &block in &self.lists[token * self.list_len..(token + 1) * self.list_len] {
                let Ok(block) = usize::try_from(block) else { continue };
                if block < self.init_blocks || block + self.local_blocks >= own {
                    forced[block] = true;
                } else {
                    chosen[block] += 1;
                }
            }
        }
        let shade = |(chosen, forced): (usize, bool)| {
            let share = chosen as f64 / tokens.len() as f64;
            match CHOSEN_UP_TO.iter().position(|&limit| share <= limit) {
                _ if forced => Shade::Forced,
                _ if chosen == 0 => Shade::None,
                Some(shade) => Shade::Chosen(shade),
                None => Shade::Chosen(CHOSEN.len() - 1),
            }
        };
        chosen.into_iter().zip(forced).map(shade).collect()
    }

    /// A red line down the needle's column, from where the needle stands in the text, and its words in the free space above.
    fn needle_marker(&self, svg: &mut String) {
        let diagonal = |x: f64| MAP_TOP + (x - LEFT) / PANEL_WIDTH * MAP_HEIGHT;
        let x = self.block_x((self.needle_blocks().start + self.needle_blocks().end) as f64 / 2.0);
        let y = MAP_TOP + self.needle.start as f64 / self.tokens() as f64 * MAP_HEIGHT;
        let bottom = MAP_TOP + MAP_HEIGHT;
        let words = shortened(self.needle_text);
        let rightmost = LEFT + PANEL_WIDTH - LETTER * words.chars().count() as f64;
        let label_x = (x + 14.0).min(rightmost);
        let label_y = (y - 4.0).min(diagonal(label_x) - 10.0).max(MAP_TOP + 10.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {y:.1}V{bottom}\" stroke=\"{NEEDLE}\" stroke-width=\"1.2\" stroke-dasharray=\"5 4\"/>\n\
             <path d=\"M{x:.1} {y:.1}L{:.1} {:.1}\" stroke=\"{NEEDLE}\"/>\n\
             <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"#ffffff\" stroke=\"{NEEDLE}\" stroke-width=\"2\"/>",
            x.clamp(label_x, LEFT + PANEL_WIDTH),
            y.min(label_y + 3.0),
        );
        let style = format!("fill=\"{NEEDLE}\" font-weight=\"bold\"");
        text(svg, label_x, label_y - 16.0, &style, "the needle is hidden here:");
        text(svg, label_x, label_y, &format!("fill=\"{NEEDLE}\""), &words);
    }

    /// The lower panel: one row for each token of the question.
    fn question_rows(&self, svg: &mut String) {
        let top = MAP_TOP + MAP_HEIGHT + BETWEEN;
        text(
            svg,
            LEFT,
            top - 34.0,
            "font-size=\"16\" font-weight=\"bold\"",
            "The question at the end, word by word",
        );
        let needle = self.needle_blocks();
        let mut cells = Cells::default();
        let mut finders = String::new();
        for (row, word) in self.question_words.iter().enumerate() {
            let y = top + row as f64 * WORD_HEIGHT;
            let token = self.question + row;
            let shades = self.shades(token..token + 1);
            rectangle(
                svg,
                LEFT,
                y,
                PANEL_WIDTH,
                WORD_HEIGHT - 2.0,
                &format!("fill=\"{UNREAD}\""),
            );
            cells.add_row(y, WORD_HEIGHT - 2.0, &shades);
            let finds = needle.clone().any(|block| shades[block] != Shade::None);
            let style = if finds {
                format!("fill=\"{NEEDLE}\" font-weight=\"bold\"")
            } else {
                String::new()
            };
            text(svg, LEFT - 8.0, y + 13.0, &format!("text-anchor=\"end\" {style}"), word);
            if finds {
                let left = self.block_x(needle.start as f64) - 4.0;
                let width = self.block_x(needle.end as f64) + 4.0 - left;
                let style = format!("fill=\"none\" stroke=\"{NEEDLE}\" stroke-width=\"2\" rx=\"2\"");
                rectangle(&mut finders, left, y - 0.5, width, WORD_HEIGHT - 1.0, &style);
            }
        }
        cells.draw(svg, |block| self.block_x(block as f64));
        svg.push_str(&finders);
        let caption = "needle's block: ringed where the word reads it";
        let half = LETTER * caption.len() as f64 / 2.0;
        let x = self
            .block_x((needle.start + needle.end) as f64 / 2.0)
            .clamp(LEFT + half, LEFT + PANEL_WIDTH - half);
        let style = format!("fill=\"{NEEDLE}\" text-anchor=\"middle\"");
        text(svg, x, top - 8.0, &style, caption);
        let bottom = top + self.question_words.len() as f64 * WORD_HEIGHT;
        self.block_axis(svg, bottom, "block of the text that is read");
    }

    /// Ticks and a label below a panel.
    fn block_axis(&self, svg: &mut String, y: f64, label: &str) {
        let step = tick_step(self.blocks());
        for block in (0..=self.blocks()).step_by(step) {
            let x = self.block_x(block as f64);
            let _ = writeln!(svg, "<path d=\"M{x:.1} {y}v5\" stroke=\"{FAINT}\"/>");
            text(
                svg,
                x,
                y + 19.0,
                &format!("text-anchor=\"middle\" fill=\"{FAINT}\" font-size=\"12\""),
                &block.to_string(),
            );
        }
        text(svg, LEFT + PANEL_WIDTH / 2.0, y + 38.0, "text-anchor=\"middle\"", label);
    }

    /// Ticks and a label left of the upper panel.
    fn token_axis(&self, svg: &mut String) {
        for token in (0..=self.tokens()).step_by(tick_step(self.tokens())) {
            let y = MAP_TOP + token as f64 / self.tokens() as f64 * MAP_HEIGHT;
            let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}h-5\" stroke=\"{FAINT}\"/>");
            let style = format!("text-anchor=\"end\" fill=\"{FAINT}\" font-size=\"12\"");
            text(svg, LEFT - 9.0, y + 4.0, &style, &grouped(token));
        }
        let (x, y) = (LEFT - 72.0, MAP_TOP + MAP_HEIGHT / 2.0);
        let style = format!("text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\"");
        text(svg, x, y, &style, "token that reads (position in the text)");
    }
}

/// How a block is read by the tokens of one row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shade {
    None,
    Forced,
    /// Index into the colours of chosen blocks.
    Chosen(usize),
}

/// Rectangles by colour, so that the document has one path per colour.
#[derive(Default)]
struct Cells {
    forced: Vec<Cell>,
    chosen: [Vec<Cell>; CHOSEN.len()],
}

struct Cell {
    blocks: Range<usize>,
    y: f64,
    height: f64,
}

impl Cells {
    /// Neighbours of one shade become one rectangle.
    fn add_row(&mut self, y: f64, height: f64, shades: &[Shade]) {
        let mut start = 0;
        for run in shades.chunk_by(|a, b| a == b) {
            let cell = Cell {
                blocks: start..start + run.len(),
                y,
                height,
            };
            start += run.len();
            match run[0] {
                Shade::None => {}
                Shade::Forced => self.forced.push(cell),
                Shade::Chosen(shade) => self.chosen[shade].push(cell),
            }
        }
    }

    fn draw(&self, svg: &mut String, x: impl Fn(usize) -> f64) {
        for (cells, colour) in [(&self.forced, FORCED)]
            .into_iter()
            .chain(self.chosen.iter().zip(CHOSEN))
        {
            let _ = write!(svg, "<path fill=\"{colour}\" d=\"");
            for Cell { blocks, y, height } in cells {
                let (left, right) = (x(blocks.start), x(blocks.end));
                let _ = write!(svg, "M{left:.1} {y:.1}H{right:.1}v{height:.1}H{left:.1}z");
            }
            svg.push_str("\"/>\n");
        }
    }
}

fn rectangle(svg: &mut String, x: f64, y: f64, width: f64, height: f64, style: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {style}/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, style: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{content}</text>");
}

/// Colours side by side, each with what they mean.
fn legend_line(svg: &mut String, y: f64, entries: &[(&[&str], &str)]) {
    let mut x = LEFT;
    for (colours, label) in entries {
        for colour in *colours {
            rectangle(svg, x, y, 16.0, 12.0, &format!("fill=\"{colour}\""));
            x += 16.0;
        }
        text(svg, x + 6.0, y + 11.0, "", label);
        x += 26.0 + LETTER * label.len() as f64;
    }
}

/// A sentence that fits into half of a panel or so.
fn shortened(sentence: &str) -> String {
    const LETTERS: usize = 90;
    if sentence.chars().count() <= LETTERS {
        return sentence.to_owned();
    }
    let start: String = sentence.chars().take(LETTERS).collect();
    start + "\u{2026}"
}

/// A power of two that gives an axis of `length` about eight ticks.
fn tick_step(length: usize) -> usize {
    length.div_ceil(12).next_power_of_two()
}

/// A number with commas between its thousands.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
