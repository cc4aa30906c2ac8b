//! A plot of bars as SVG, for the documents: rows of bars, a value each, on one scale.
//!
//! Text is the reader's own sans-serif and colours keep apart on light and dark pages, so that a plot needs nothing
//! beside itself.

use std::fmt::Write as _;

/// Pixels.
const LINE: f64 = 15.0;
const BAR: f64 = 12.0;
const BETWEEN_ROWS: f64 = 8.0;
const HEAD: f64 = 52.0;
const FOOT: f64 = 34.0;
const WIDTH: f64 = 920.0;
const LABELS: f64 = 400.0;
/// For the numbers behind the bars.
const NUMBERS: f64 = 70.0;
/// What a letter is wide, on average.
const LETTER: f64 = 6.1;
/// Of a series each.
const COLOURS: [&str; 4] = ["#2f7ed8", "#e08a1e", "#4ca64c", "#a64ca6"];
/// Lines of the grid, about so many.
const GRID: f64 = 6.0;

/// How long a bar is for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// By powers of ten; a bar begins at 1 and goes to either side.
    Ratio,
}

/// A plot.
#[derive(Debug, Clone)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// What the numbers are.
    pub unit: String,
    /// The names of the bars of each row.
    pub series: Vec<String>,
    /// A label each, and a value for each series; what is not finite has no bar.
    pub rows: Vec<(String, Vec<f64>)>,
    /// The scale.
    pub scale: Scale,
}

impl Bars {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let each = self.series.len() as f64 * BAR + BETWEEN_ROWS;
        let height = HEAD + self.rows.len() as f64 * each + FOOT;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"11\" fill=\"#777\">\n<text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n",
            escaped(&self.title)
        );
        self.legend(&mut out);
        let axis = Axis::of(self);
        axis.grid(&mut out, height - FOOT, &self.unit);
        for (index, (label, values)) in self.rows.iter().enumerate() {
            let top = HEAD + index as f64 * each;
            let middle = top + (each - BETWEEN_ROWS) / 2.0 + 4.0;
            let label = shortened(label, (LABELS - 16.0) / LETTER);
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
                LABELS - 8.0,
                escaped(&label)
            );
            for (series, value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                let y = top + series as f64 * BAR;
                let (from, to) = axis.span(*value);
                let _ = writeln!(
                    out,
                    "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    (to - from).max(0.5),
                    BAR - 2.0,
                    COLOURS[series % COLOURS.len()],
                    to + 4.0,
                    y + BAR - 3.0,
                    number(*value)
                );
            }
        }
        out + "</svg>\n"
    }

    fn legend(&self, out: &mut String) {
        if self.series.len() < 2 {
            return;
        }
        let mut x = LABELS;
        for (index, name) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"26\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"35\">{}</text>",
                x + LINE,
                escaped(name)
            );
            x += LINE * 2.0 + name.chars().count() as f64 * LETTER;
        }
    }
}

/// Where values are.
struct Axis {
    scale: Scale,
    /// The values, or their logarithms, at both ends.
    low: f64,
    high: f64,
}

impl Axis {
    fn of(bars: &Bars) -> Self {
        let values = bars.rows.iter().flat_map(|(_, values)| values).copied().filter(|it| it.is_finite());
        match bars.scale {
            Scale::Linear => {
                let most = values.fold(0.0, f64::max);
                Self { scale: bars.scale, low: 0.0, high: if most > 0.0 { most } else { 1.0 } }
            }
            Scale::Ratio => {
                let (low, high) = values
                    .filter(|value| *value > 0.0)
                    .map(f64::log10)
                    .fold((0.0, 0.0), |(low, high): (f64, f64), it| (low.min(it), high.max(it)));
                // Whole powers of ten, and never an axis without length.
                Self { scale: bars.scale, low: low.floor(), high: high.ceil().max(low.floor() + 1.0) }
            }
        }
    }

    /// The place of a value, or of its logarithm.
    fn x(&self, at: f64) -> f64 {
        LABELS + (at - self.low) / (self.high - self.low) * (WIDTH - LABELS - NUMBERS)
    }

    fn span(&self, value: f64) -> (f64, f64) {
        match self.scale {
            Scale::Linear => (self.x(0.0), self.x(value.max(0.0))),
            Scale::Ratio => {
                let (one, there) = (self.x(0.0), self.x(value.max(f64::MIN_POSITIVE).log10().max(self.low)));
                (one.min(there), one.max(there))
            }
        }
    }

    fn grid(&self, out: &mut String, bottom: f64, unit: &str) {
        let mut line = |at: f64, text: String| {
            let x = self.x(at);
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"#8884\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{text}</text>",
                HEAD - 6.0,
                bottom + LINE
            );
        };
        match self.scale {
            Scale::Linear => {
                let step = step(self.high);
                let mut at = 0.0;
                while at <= self.high {
                    line(at, number(at));
                    at += step;
                }
            }
            Scale::Ratio => {
                let mut power = self.low;
                while power <= self.high {
                    line(power, number(10_f64.powf(power)));
                    power += 1.0;
                }
            }
        }
        let _ = writeln!(
            out,
            "<text x=\"{LABELS:.1}\" y=\"{:.1}\">{}</text>",
            bottom + LINE * 2.0,
            escaped(unit)
        );
    }
}

/// A round distance of the lines of the grid.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / GRID).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|step| most / step <= GRID).unwrap_or(most)
}

fn number(value: f64) -> String {
    let text = match value.abs() {
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        it if it >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn shortened(text: &str, most: f64) -> String {
    let most = most as usize;
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(scale: Scale, rows: &[(&str, &[f64])]) -> String {
        let rows = rows.iter().map(|(label, values)| ((*label).to_owned(), values.to_vec())).collect();
        let series = vec!["ours".to_owned(), "theirs".to_owned()];
        Bars { title: "a & b".to_owned(), unit: "s".to_owned(), series, rows, scale }.svg()
    }

    /// The left ends and the lengths of the bars.
    fn spans(svg: &str) -> Vec<(f64, f64)> {
        let value = |line: &str, name: &str| {
            line.split_once(&format!(" {name}=\"")).unwrap().1.split('"').next().unwrap().parse().unwrap()
        };
        svg.lines()
            .filter(|line| line.starts_with("<rect") && !line.contains("y=\"26\""))
            .map(|line| (value(line, "x"), value(line, "width")))
            .collect()
    }

    #[test]
    fn lengths_follow_the_values_and_what_there_is_not_has_no_bar() {
        let svg = bars(Scale::Linear, &[("one", &[1.0, 2.0]), ("two", &[4.0, f64::NAN])]);
        let found = spans(&svg);
        assert_eq!(found.len(), 3);
        assert!((found[0].1 * 4.0 - found[2].1).abs() < 0.5 && (found[1].1 * 2.0 - found[2].1).abs() < 0.5);
        assert!(svg.contains("a &amp; b") && svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn ratios_go_to_both_sides_of_one() {
        let found = spans(&bars(Scale::Ratio, &[("better", &[100.0]), ("worse", &[0.1])]));
        assert!((found[0].1 - 2.0 * found[1].1).abs() < 0.5, "{found:?}");
        assert!((found[1].0 + found[1].1 - found[0].0).abs() < 0.5, "they meet at one: {found:?}");
    }

    #[test]
    fn nothing_to_show_is_an_empty_picture() {
        assert!(spans(&bars(Scale::Ratio, &[])).is_empty());
        assert!(spans(&bars(Scale::Linear, &[("zero", &[0.0])])).len() == 1);
    }

    #[test]
    fn the_grid_is_round_and_numbers_are_short() {
        for (most, wanted) in [(6.0, 1.0), (7.0, 2.0), (0.9, 0.2), (100.0, 20.0)] {
            assert!((step(most) - wanted).abs() < 1e-9, "{most}: {}", step(most));
        }
        let shown = [0.0, 0.25, 2.0, 12.34, 1234.5].map(number);
        assert_eq!(shown, ["0", "0.25", "2", "12.3", "1234"].map(str::to_owned));
        assert_eq!(shortened("abcdef", 4.0), "abc…");
    }
}
