//! The syntax of Java's `.properties` files (`java.util.Properties.load`), with
//! the line of each entry kept for messages.
//!
//! ```text
//! # comment            ! comment too
//! key = value          key:value            key value
//! long.value = one,\
//!     two              (the next line's leading blanks are dropped)
//! escapes: \t \n \r \f \uXXXX, and \ before any other character is that character
//! ```

use super::ConfigError;

/// One entry of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: String,
    /// Where it starts, counted from 1.
    pub line: usize,
}

/// Reads all entries in their order; a name that comes twice is there twice.
/// `file` is for the message when a `\u` escape is broken, the only error there is.
pub fn parse(text: &str, file: &str) -> Result<Vec<Property>, ConfigError> {
    let mut properties = Vec::new();
    for (line, logical) in logical_lines(text) {
        let (name, value) = split(&logical);
        let unescape =
            |part: &str| unescape(part).map_err(|reason| ConfigError::Syntax { file: file.to_string(), line, reason });
        properties.push(Property { name: unescape(name)?, value: unescape(value)?, line });
    }
    Ok(properties)
}

/// Lines without comments and blanks, continued lines joined; with their numbers.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let natural: Vec<&str> =
        text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')).collect();
    let mut lines = Vec::new();
    let mut rest = natural.into_iter().enumerate();
    while let Some((index, first)) = rest.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_string();
        while ends_in_continuation(&logical) {
            logical.pop();
            match rest.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        lines.push((index + 1, logical));
    }
    lines
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// An odd number of backslashes at the end: the last one is not escaped.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// The name ends at the first `=`, `:` or blank that is not escaped; one `=` or
/// `:` and the blanks around it belong to neither side.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (matches!(c, '=' | ':') || is_blank(*c));
        escaped = *c == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let value = line[end..].trim_start_matches(is_blank);
    let value = value.strip_prefix(['=', ':']).unwrap_or(value);
    (&line[..end], value.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> Result<String, String> {
    // Java's characters are UTF-16 units: a pair of \u escapes can be one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        match chars.next() {
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let well_formed = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| well_formed);
                units.push(unit.ok_or_else(|| format!("\\u{digits} is not \\u and four hexadecimal digits"))?);
            }
            Some('t') => units.push(u16::from(b'\t')),
            Some('n') => units.push(u16::from(b'\n')),
            Some('r') => units.push(u16::from(b'\r')),
            Some('f') => units.push(0x0c),
            Some(other) => units.extend_from_slice(other.encode_utf16(&mut [0; 2])),
            None => {}
        }
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, usize)]) {
        let got = parse(text, "f").unwrap();
        let got: Vec<_> = got.iter().map(|p| (p.name.as_str(), p.value.as_str(), p.line)).collect();
        assert_eq!(got, expected, "{text:?}");
    }

    // Expected values are what java.util.Properties gives for the same text.
    #[test]
    fn syntax_is_javas() {
        check("", &[]);
        check("# c\n  ! c\n\n \t\n", &[]);
        check("a=b", &[("a", "b", 1)]);
        check("a = b ", &[("a", "b ", 1)]);
        check("a:b\r\nc d", &[("a", "b", 1), ("c", "d", 2)]);
        check("a : = b", &[("a", "= b", 1)]);
        check("a==b", &[("a", "=b", 1)]);
        check("a", &[("a", "", 1)]);
        check("=b", &[("", "b", 1)]);
        check("a\\ b\\=c = d", &[("a b=c", "d", 1)]);
        check("a=one,\\\n   two\nb=3", &[("a", "one,two", 1), ("b", "3", 3)]);
        check("a=x\\\\\nb=y", &[("a", "x\\", 1), ("b", "y", 2)]);
        check("a=x\\", &[("a", "x", 1)]);
        check("a=1\\\n# not a comment", &[("a", "1# not a comment", 1)]);
        check("# comment \\\na=1", &[("a", "1", 2)]);
        check("a=1\\\n\n b=2", &[("a", "1", 1), ("b", "2", 3)]);
        check("\\\na=1", &[("a", "1", 1)]);
        check("a\\\n=1", &[("a", "1", 1)]);
        check("a=b\\ \nc=d", &[("a", "b ", 1), ("c", "d", 2)]);
        check("\\#a\x0cb", &[("#a", "b", 1)]);
        check("a= \\ b", &[("a", " b", 1)]);
        check("a=1\r\rb=2\\\r  c", &[("a", "1", 1), ("b", "2c", 3)]);
        check("a=\\t\\n\\q\\u0041", &[("a", "\t\nqA", 1)]);
        check("a=\\ud83d\\ude00", &[("a", "\u{1f600}", 1)]);
        check("a=1\na=2", &[("a", "1", 1), ("a", "2", 2)]);
        check("listeners=PLAINTEXT://:9092", &[("listeners", "PLAINTEXT://:9092", 1)]);
    }

    #[test]
    fn a_broken_escape_names_its_line() {
        for text in ["a=1\nb=\\u12", "\nb=\\u00zz", "\nb=\\u+123"] {
            let error = parse(text, "server.properties").unwrap_err();
            assert!(error.to_string().starts_with("server.properties, line 2: \\u"), "{error}");
        }
    }
}
