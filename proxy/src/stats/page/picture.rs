//! Small pictures in a line of the table: the last minutes of a server, and its share of the sessions.

use std::fmt::Write;

use crate::stats::history::{POINTS, STEP, Series};

const WIDTH: u64 = 90;
const HEIGHT: u64 = 16;

/// A curve of bytes (filled) and sessions (line) over the last minutes, newest at the right.
pub(super) fn sparkline(series: &Series) -> String {
    let mut out = format!(
        "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"last {} minutes\">",
        POINTS as u64 * STEP.as_secs() / 60
    );
    let bytes: Vec<u64> = series.bytes.iter().copied().collect();
    let sessions: Vec<u64> = series.sessions.iter().copied().map(u64::from).collect();
    if let Some(points) = points(&bytes) {
        let left = WIDTH - WIDTH * (bytes.len() as u64 - 1) / (POINTS as u64 - 1);
        let _ = write!(out, "<polygon class=\"a\" points=\"{left},{HEIGHT} {points}{WIDTH},{HEIGHT}\"/>");
    }
    if let Some(points) = points(&sessions) {
        let _ = write!(out, "<polyline class=\"b\" points=\"{}\"/>", points.trim_end());
    }
    out.push_str("</svg>");
    out
}

/// `x,y ` for each value, scaled to the largest; nothing when there is nothing to see.
fn points(values: &[u64]) -> Option<String> {
    let largest = values.iter().copied().max().filter(|largest| *largest > 0)?;
    let first = (POINTS - values.len().min(POINTS)) as u64;
    let mut out = String::new();
    for (at, value) in (first..).zip(values) {
        let x = WIDTH * at / (POINTS as u64 - 1);
        let y = HEIGHT
            - 1
            - u64::try_from(u128::from(*value) * u128::from(HEIGHT - 2) / u128::from(largest)).unwrap_or(0);
        let _ = write!(out, "{x},{y} ");
    }
    Some(out)
}

/// A server's share of the sessions as a bar, in tenths of a percent, with a mark at its share of the weights.
pub(super) fn share(share: u64, fair: u64) -> String {
    let (share, fair) = (share.min(1000), fair.min(1000));
    format!(
        "<svg width=\"60\" height=\"10\" viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{} % of sessions, {} % by weight\"><rect class=\"o\" width=\"1000\" height=\"100\"/>\
         <rect class=\"w\" width=\"{share}\" height=\"100\"/><rect class=\"f\" x=\"{fair}\" width=\"8\" height=\"100\"/></svg>",
        share / 10,
        fair / 10
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_stays_inside_its_picture() {
        let values: Vec<u64> = (0..60).map(|at| if at % 7 == 0 { u64::MAX } else { at }).collect();
        let points = points(&values).unwrap();
        for point in points.split_whitespace() {
            let (x, y) = point.split_once(',').unwrap();
            assert!(x.parse::<u64>().unwrap() <= WIDTH && y.parse::<u64>().unwrap() < HEIGHT, "{point}");
        }
        assert!(super::points(&[0, 0, 0]).is_none());
        assert!(super::points(&[]).is_none());
    }
}
