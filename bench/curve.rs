//! Draws latency curves as SVG: the percentile to the right, each step ten times
//! rarer than the one before, and the latency upwards, both logarithmic. The
//! drawing carries its own fonts' names and colours and nothing else; it shows the
//! same in a browser and in a page of Markdown.

use std::fmt::Write;

use crate::latency::Latencies;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
/// Room for the axis' words; the legend comes below.
const BOTTOM: f64 = 60.0;
const LEGEND_LINE: f64 = 20.0;

/// Told apart also by those who see few colours (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// Percentiles that are marked, by the number of nines before.
const MARKS: [&str; 7] = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];

/// How far right a fraction lies: 0 for none, 1 for 90 %, 2 for 99 %, ...
fn rarity(fraction: f64) -> f64 {
    -(1.0 - fraction).max(1e-12).log10()
}

/// What is drawn of one run.
struct Curve<'a> {
    name: &'a str,
    latencies: &'a Latencies,
    /// (rarity, latency in µs). The last one stands for the largest latency.
    points: Vec<(f64, f64)>,
}

impl<'a> Curve<'a> {
    fn new(name: &'a str, latencies: &'a Latencies) -> Curve<'a> {
        // One of `count` is the rarest that can be told.
        let rarest = (latencies.count().max(1) as f64).log10();
        let points = latencies.steps(20).into_iter().map(|(fraction, us)| (rarity(fraction).min(rarest), us));
        Curve { name, latencies, points: points.collect() }
    }
}

/// The drawing. Curves without a latency are left out.
pub fn svg(title: &str, curves: &[(String, &Latencies)]) -> String {
    let curves = curves.iter().filter(|(_, latencies)| latencies.count() > 0);
    let curves: Vec<Curve<'_>> = curves.map(|(name, latencies)| Curve::new(name, latencies)).collect();
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let across = all().map(|(x, _)| *x).fold(2.0, f64::max).min(MARKS.len() as f64 - 1.0);
    let lowest = all().map(|(_, y)| y.max(0.001)).fold(f64::INFINITY, f64::min).log10();
    let highest = all().map(|(_, y)| y.max(0.001)).fold(0.001, f64::max).log10();
    // Whole powers of ten, one at least.
    let low = if lowest.is_finite() { lowest.floor() } else { 0.0 };
    let high = highest.ceil().max(low + 1.0);
    let x_at = |rarity: f64| LEFT + (WIDTH - LEFT - RIGHT) * rarity.min(across) / across;
    let y_at = |us: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ((us.max(0.001).log10() - low) / (high - low));

    let height = HEIGHT + LEGEND_LINE * curves.len() as f64;
    let mut out = String::new();
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="{LEFT}" y="28" font-size="17" fill="#222222">{}</text>"##,
        escaped(title)
    );
    let (left, right, top, bottom) = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM);
    for (nines, mark) in MARKS.iter().enumerate().take_while(|(nines, _)| *nines as f64 <= across + 1e-9) {
        let x = x_at(nines as f64);
        let _ = writeln!(
            out,
            r##"<line x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}" stroke="#dddddd"/>
<text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="#444444">{mark}</text>"##,
            bottom + 20.0
        );
    }
    for power in low as i32..=high as i32 {
        let us = 10f64.powi(power);
        let y = y_at(us);
        let _ = writeln!(
            out,
            r##"<line x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#dddddd"/>
<text x="{:.1}" y="{:.1}" text-anchor="end" fill="#444444">{}</text>"##,
            left - 8.0,
            y + 4.0,
            duration(us)
        );
    }
    let _ = writeln!(
        out,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#444444">of all were as quick or quicker</text>"##,
        (left + right) / 2.0,
        bottom + 42.0
    );
    for (index, Curve { name, latencies, points }) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y))).collect();
        // Beyond the colours, dashes.
        let dash = if index < COLOURS.len() { String::new() } else { String::from(r#" stroke-dasharray="6 4""#) };
        let y = HEIGHT + LEGEND_LINE * index as f64;
        let _ = writeln!(
            out,
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>
<line x1="{left}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="3"{dash}/>
<text x="{:.1}" y="{y:.1}" fill="#222222">{} (p50 {}, p99 {}, p99.9 {}, max {}, of {})</text>"##,
            path.join(" "),
            y - 4.0,
            left + 30.0,
            y - 4.0,
            left + 40.0,
            escaped(name),
            duration(latencies.quantile_us(0.5)),
            duration(latencies.quantile_us(0.99)),
            duration(latencies.quantile_us(0.999)),
            duration(latencies.max_us()),
            latencies.count()
        );
    }
    out + "</svg>\n"
}

/// `3.2 µs`, `15 ms`, `2 s`.
fn duration(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1.0 => (us * 1e3, "ns"),
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let text = if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            // XML has no place for these.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn latencies(us: impl Iterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        us.for_each(|us| latencies.record(Duration::from_micros(us), 1));
        latencies
    }

    /// The numbers of a polyline.
    fn drawn(svg: &str, index: usize) -> Vec<(f64, f64)> {
        let line = svg.lines().filter(|line| line.starts_with("<polyline")).nth(index).unwrap();
        let points = line.split('"').nth(1).unwrap();
        points
            .split(' ')
            .map(|point| point.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect()
    }

    #[test]
    fn curves_rise_to_the_right_and_stay_within_the_frame() {
        let (slow, quick) = (latencies((1..=10_000).map(|n| n * 10)), latencies((1..=1000).map(|n| 5 + n / 100)));
        let svg = svg("a \"run\" <with> & more", &[("slow".into(), &slow), ("quick".into(), &quick)]);
        for index in 0..2 {
            let points = drawn(&svg, index);
            assert!(points.len() > 20);
            assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1), "{points:?}");
            assert!(
                points.iter().all(|(x, y)| (LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y))
            );
        }
        // The slow one lies above: SVG counts downwards.
        assert!(drawn(&svg, 0).last().unwrap().1 < drawn(&svg, 1).last().unwrap().1);
        assert!(svg.contains("a &quot;run&quot; &lt;with&gt; &amp; more"));
        assert!(svg.contains(">99.99 %<") && svg.contains(">100 ms<") && !svg.contains(">99.999 %<"), "{svg}");
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }

    #[test]
    fn strange_curves_are_drawn_too() {
        let (none, one, zero) = (Latencies::new(), latencies([700].into_iter()), latencies([0, 0, 0].into_iter()));
        let svg = svg("", &[("none".into(), &none), ("one".into(), &one), ("zero".into(), &zero)]);
        assert_eq!(svg.matches("<polyline").count(), 2, "a curve of nothing is left out");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(!super::svg("", &[]).contains("NaN"));
    }

    #[test]
    fn durations_are_short() {
        for (us, text) in
            [(0.5, "500 ns"), (1.0, "1 µs"), (9.96, "10 µs"), (1500.0, "1.5 ms"), (2e6, "2 s"), (1e3, "1 ms")]
        {
            assert_eq!(duration(us), text);
        }
    }
}
