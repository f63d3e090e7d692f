//! Reading order: columns are read one after the other, whatever the order in the file.
//!
//! In: the characters of a page in file order, with their boxes. Out: its text. How: characters make lines, a line is cut at
//! wide gaps, and a band of lines with a free vertical strip through it is read left of the strip, then right of it.
//! Invariant: every character is in the output once, except white space. Deliberately absent: right-to-left column order,
//! tables (short cells beside each other are kept in their rows).

/// A character of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glyph {
    /// The character.
    pub(super) character: char,
    /// Left, bottom, right, top in points, y upwards; None for white space.
    pub(super) bounds: Option<[f32; 4]>,
}

/// A run of characters on one line without a wide gap.
#[derive(Clone, Debug)]
struct Line {
    text: String,
    left: f32,
    bottom: f32,
    right: f32,
    top: f32,
}

impl Line {
    fn height(&self) -> f32 {
        self.top - self.bottom
    }

    fn is_level_with(&self, other: &Line) -> bool {
        self.top.min(other.top) - self.bottom.max(other.bottom) > 0.5 * self.height().min(other.height())
    }
}

/// A gap this many line heights wide cuts a line.
const CUT_HEIGHTS: f32 = 1.2;

/// The least width of the strip between columns, in points.
const STRIP_MIN: f32 = 8.0;

/// Lines beyond which columns are not looked for.
const LINES_MAX: usize = 5_000;

/// Text of a page, column by column; None when its lines do not run from left to right, as in drawings and turned text.
pub(super) fn reading_order(glyphs: &[Glyph]) -> Option<String> {
    let mut lines = lines(glyphs);
    let in_short_lines: usize = lines.iter().map(|l| l.text.chars().count()).filter(|n| *n < 3).sum();
    let visible = glyphs.iter().filter(|g| g.bounds.is_some()).count();
    if in_short_lines * 4 > visible {
        return None;
    }
    lines.sort_by(|a, b| b.top.total_cmp(&a.top));
    let mut ordered = Vec::with_capacity(lines.len());
    if lines.len() <= LINES_MAX {
        order(lines, 0, &mut ordered);
    } else {
        ordered = lines;
    }
    Some(join(&ordered))
}

/// File order to lines: a line ends at a line end, at a jump up or down, at a wide gap and at a jump back.
fn lines(glyphs: &[Glyph]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut open: Option<Line> = None;
    for glyph in glyphs {
        let Some([left, bottom, right, top]) = glyph.bounds else {
            match (&mut open, glyph.character) {
                (_, '\n' | '\r') => lines.extend(open.take()),
                (Some(line), _) if !line.text.ends_with(' ') => line.text.push(' '),
                _ => {}
            }
            continue;
        };
        let one = Line { text: glyph.character.to_string(), left, bottom, right, top };
        match &mut open {
            Some(line) if line.is_level_with(&one) && joins(line, &one) => {
                line.text.push(glyph.character);
                line.left = line.left.min(left);
                line.right = line.right.max(right);
                line.bottom = line.bottom.min(bottom);
                line.top = line.top.max(top);
            }
            _ => lines.extend(open.replace(one)),
        }
    }
    lines.extend(open);
    lines.retain(|line| !line.text.trim().is_empty());
    lines
}

fn joins(line: &Line, next: &Line) -> bool {
    let gap = line.height().max(next.height()) * CUT_HEIGHTS;
    next.left - line.right < gap && line.left - next.right < gap
}

/// Sorted top to bottom in; in reading order out.
fn order(lines: Vec<Line>, depth: usize, out: &mut Vec<Line>) {
    let mut rest = lines;
    while !rest.is_empty() {
        match (depth < 4).then(|| columns(&rest)).flatten() {
            Some((end, strip)) => {
                let tail = rest.split_off(end);
                let (left, right): (Vec<Line>, Vec<Line>) = rest.into_iter().partition(|line| line.right <= strip);
                order(left, depth + 1, out);
                order(right, depth + 1, out);
                rest = tail;
            }
            None => {
                // The first line goes by itself; lines level with it follow from left to right.
                let level = rest.iter().take_while(|line| line.is_level_with(&rest[0])).count().max(1);
                let tail = rest.split_off(level);
                rest.sort_by(|a, b| a.left.total_cmp(&b.left));
                out.append(&mut rest);
                rest = tail;
            }
        }
    }
}

/// The longest run of lines from the first on with a free vertical strip, and where the strip is; None unless both sides
/// look like text columns.
fn columns(lines: &[Line]) -> Option<(usize, f32)> {
    let left = lines.iter().map(|l| l.left).fold(f32::INFINITY, f32::min);
    let right = lines.iter().map(|l| l.right).fold(f32::NEG_INFINITY, f32::max);
    // Free intervals only shrink as lines are added.
    let mut free = vec![(left, right)];
    let mut end = 0;
    for line in lines {
        let inner = |&(a, b): &(f32, f32)| b - a >= STRIP_MIN && a > left && b < right;
        let next: Vec<(f32, f32)> =
            free.iter().flat_map(|&(a, b)| [(a, b.min(line.left)), (a.max(line.right), b)]).filter(|(a, b)| b - a >= STRIP_MIN).collect();
        let open_left = next.iter().any(|&(a, _)| a <= left);
        let open_right = next.iter().any(|&(_, b)| b >= right);
        if !next.iter().any(inner) && !open_left && !open_right {
            break;
        }
        free = next;
        end += 1;
    }
    let run = lines.get(..end)?;
    let strips = free.iter().filter(|(a, b)| *a > left && *b < right);
    let widest = strips.max_by(|x, y| (x.1 - x.0).total_cmp(&(y.1 - y.0)))?;
    let strip = (widest.0 + widest.1) / 2.0;
    let side = |keep: fn(&Line, f32) -> bool| is_column(run.iter().filter(|l| keep(l, strip)));
    (side(|l, s| l.right <= s) && side(|l, s| l.left >= s)).then_some((end, strip))
}

/// Three lines or more, most of which fill most of the width and hold more than a word or two.
fn is_column<'l>(lines: impl Iterator<Item = &'l Line>) -> bool {
    let lines: Vec<&Line> = lines.collect();
    let left = lines.iter().map(|l| l.left).fold(f32::INFINITY, f32::min);
    let right = lines.iter().map(|l| l.right).fold(f32::NEG_INFINITY, f32::max);
    let full = lines.iter().filter(|l| l.right - l.left > 0.6 * (right - left) && l.text.chars().count() >= 15).count();
    lines.len() >= 3 && full * 2 >= lines.len()
}

/// Lines to text: level neighbours share a line, a clear distance makes a blank line.
fn join(lines: &[Line]) -> String {
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        if let Some(last) = i.checked_sub(1).and_then(|i| lines.get(i)) {
            let distance = last.bottom - line.top;
            text.push_str(match () {
                () if last.is_level_with(line) && line.left >= last.right => " ",
                () if distance.abs() > 0.7 * last.height().max(line.height()) => "\n\n",
                () => "\n",
            });
        }
        text.push_str(line.text.trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Glyphs of a text whose characters are 5 wide and 10 high.
    fn put(out: &mut Vec<Glyph>, x: f32, y: f32, text: &str) {
        for (i, character) in text.chars().enumerate() {
            let left = x + i as f32 * 5.0;
            let bounds = (character != ' ').then_some([left, y, left + 5.0, y + 10.0]);
            out.push(Glyph { character, bounds });
        }
        out.push(Glyph { character: '\n', bounds: None });
    }

    #[test]
    fn columns_are_read_one_after_the_other() {
        let mut glyphs = Vec::new();
        put(&mut glyphs, 100.0, 700.0, "a title over both columns of the page");
        for row in 0..4 {
            let y = 650.0 - row as f32 * 12.0;
            put(&mut glyphs, 50.0, y, &format!("left column line {row} text"));
            put(&mut glyphs, 250.0, y, &format!("right column line {row} txt"));
        }
        put(&mut glyphs, 100.0, 500.0, "a footer over both columns of the page");
        let text = reading_order(&glyphs).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty()).collect();
        assert_eq!(lines[0], "a title over both columns of the page");
        assert_eq!(lines[1], "left column line 0 text");
        assert_eq!(lines[4], "left column line 3 text");
        assert_eq!(lines[5], "right column line 0 txt");
        assert_eq!(lines[9], "a footer over both columns of the page");
        assert_eq!(lines.len(), 10);
    }

    #[test]
    fn rows_of_a_table_stay_together() {
        let mut glyphs = Vec::new();
        for row in 0..5 {
            let y = 650.0 - row as f32 * 12.0;
            put(&mut glyphs, 50.0, y, &format!("item {row}"));
            put(&mut glyphs, 250.0, y, &format!("{row}.50"));
        }
        let text = reading_order(&glyphs).unwrap_or_default();
        assert_eq!(text.lines().next(), Some("item 0 0.50"));
    }

    #[test]
    fn turned_text_is_not_for_us() {
        let mut glyphs = Vec::new();
        for (i, c) in "a word from bottom to top".chars().enumerate() {
            put(&mut glyphs, 50.0, 100.0 + 10.0 * i as f32, &c.to_string());
        }
        assert_eq!(reading_order(&glyphs), None);
    }

    #[test]
    fn one_column_is_left_alone() {
        let mut glyphs = Vec::new();
        put(&mut glyphs, 50.0, 600.0, "second line of the paragraph");
        put(&mut glyphs, 50.0, 612.0, "first line of the paragraph");
        assert_eq!(reading_order(&glyphs).as_deref(), Some("first line of the paragraph\nsecond line of the paragraph"));
    }
}
