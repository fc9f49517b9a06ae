//! Charts as SVG. Their colours are the page's variables, so that they follow it from light to dark.

use crate::report::page::{Chart, Text};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::ops::Range;

/// Colours that stand for variables until the picture is made.
const COLOURS: [(RGBColor, &str); 5] =
    [(INK, "--quiet"), (LINE, "--line"), (MARK, "--mark"), (WARN, "--warn"), (OTHER, "--other")];
const INK: RGBColor = RGBColor(1, 0, 1);
const LINE: RGBColor = RGBColor(2, 0, 2);
const MARK: RGBColor = RGBColor(3, 0, 3);
const WARN: RGBColor = RGBColor(4, 0, 4);
const OTHER: RGBColor = RGBColor(5, 0, 5);

/// Width, height and the size of letters, for screens that are wide and narrow.
const WIDE: (u32, u32, i32) = (900, 260, 14);
const NARROW: (u32, u32, i32) = (380, 240, 13);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Bars over ranges of whole numbers: from, to (inclusive) and how many.
pub fn histogram(caption: &str, what: &str, bins: &[(u64, u64, u64)]) -> Option<Chart> {
    let (first, last) = (bins.first()?.0, bins.last()?.1);
    let highest = bins.iter().map(|bin| bin.2).max().filter(|&count| count > 0)?;
    let across = first as f64..(last as f64 + 1.0);
    chart(caption, |area, letters| {
        let mut plot = axes(area, letters, across.clone(), 0.0..1.05 * highest as f64, what, "rows")?;
        plot.draw_series(bins.iter().filter(|bin| bin.2 > 0).map(|&(from, to, count)| {
            // A gap tells bars apart.
            let width = to as f64 + 1.0 - from as f64;
            let (from, to) = (from as f64 + 0.05 * width, from as f64 + 0.95 * width);
            Rectangle::new([(from, 0.0), (to, count as f64)], MARK.filled())
        }))?;
        Ok(())
    })
}

/// A rate over time in steps: from, to (seconds) and how much a second. Lines stand where a worker began again.
pub fn rate(caption: &str, what: &str, steps: &[(f64, f64, f64)], restarts: &[f64]) -> Option<Chart> {
    let last = steps.last()?.1;
    let highest = steps.iter().map(|step| step.2).fold(0.0, f64::max);
    if !(last > 0.0 && highest > 0.0) {
        return None;
    }
    let height = 1.05 * highest;
    chart(caption, |area, letters| {
        let mut plot = axes(area, letters, 0.0..last, 0.0..height, "seconds of work", what)?;
        let corners = steps.iter().flat_map(|&(from, to, rate)| [(from, rate), (to, rate)]);
        let ground = [(last, 0.0), (0.0, 0.0)];
        plot.draw_series([Polygon::new(corners.clone().chain(ground).collect::<Vec<_>>(), MARK.mix(0.25))])?;
        plot.draw_series([PathElement::new(corners.collect::<Vec<_>>(), MARK.stroke_width(2))])?;
        plot.draw_series(
            restarts.iter().map(|&at| PathElement::new(vec![(at, 0.0), (at, height)], WARN.stroke_width(2))),
        )?;
        Ok(())
    })
}

/// How often labels of a probability are right, beside the line on which both are equal. A dot's size is that of its rows.
pub fn calibration(caption: &str, dots: &[(f64, f64, u64)]) -> Option<Chart> {
    let most = dots.iter().map(|dot| dot.2).max().filter(|&rows| rows > 0)?;
    chart(caption, |area, letters| {
        let mut plot = axes(area, letters, 0.0..1.0, 0.0..1.02, "mean probability", "share that is right")?;
        plot.draw_series([PathElement::new(vec![(0.0, 0.0), (1.0, 1.0)], OTHER.stroke_width(1))])?;
        plot.draw_series(dots.iter().filter(|dot| dot.2 > 0).map(|&(probability, right, rows)| {
            let size = 3.0 + 6.0 * (rows as f64 / most as f64).sqrt();
            Circle::new((probability, right), size as i32, MARK.filled())
        }))?;
        Ok(())
    })
}

/// A picture in both sizes; none if it cannot be drawn, since a table says the same.
fn chart(caption: &str, draw: impl Fn(&Area<'_>, i32) -> Drawn) -> Option<Chart> {
    let picture = |(width, height, letters): (u32, u32, i32)| {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
            draw(&area, letters).and_then(|()| area.present()).ok()?;
        }
        Some(with_variables(&svg))
    };
    Some(Chart { caption: Text::of(caption), wide: picture(WIDE)?, narrow: picture(NARROW)? })
}

type Plot<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn axes<'a, 'b>(
    area: &'a Area<'b>,
    letters: i32,
    across: Range<f64>,
    up: Range<f64>,
    below: &str,
    beside: &str,
) -> Result<Plot<'a, 'b>, DrawingAreaErrorKind<std::io::Error>> {
    let number = |number: &f64| match number.abs() {
        n if n >= 1e9 => format!("{:.1}G", number / 1e9),
        n if n >= 1e6 => format!("{:.1}M", number / 1e6),
        n if n >= 1e4 => format!("{:.0}k", number / 1e3),
        // As many digits as a mark of these axes can have.
        _ => format!("{number:.2}").trim_end_matches('0').trim_end_matches('.').to_string(),
    };
    let narrow = area.dim_in_pixel().0 < 500;
    let mut plot = ChartBuilder::on(area)
        .margin(8)
        .margin_right(20)
        .x_label_area_size(3 * letters)
        .y_label_area_size(4 * letters + 8)
        .build_cartesian_2d(across, up)?;
    let text = ("sans-serif", letters).into_font().color(&INK);
    plot.configure_mesh()
        .disable_x_mesh()
        .bold_line_style(LINE)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_labels(if narrow { 5 } else { 10 })
        .y_labels(5)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .x_desc(below)
        .y_desc(beside)
        .draw()?;
    Ok(plot)
}

fn with_variables(svg: &str) -> String {
    let mut svg = svg.replacen("<svg ", "<svg aria-hidden=\"true\" ", 1);
    for (RGBColor(r, g, b), variable) in COLOURS {
        for what in ["fill", "stroke"] {
            let colour = format!("{what}=\"#{r:02X}{g:02X}{b:02X}\"");
            svg = svg.replace(&colour, &format!("style=\"{what}:var({variable})\""));
        }
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_the_pages() {
        let charts = [
            histogram("a", "tokens", &[(0, 9, 4), (10, 19, 0), (20, 29, 1)]),
            rate("b", "rows/s", &[(0.0, 1.5, 2.0), (1.5, 3.0, 9.0)], &[1.5]),
            calibration("c", &[(0.5, 0.25, 3), (0.95, 1.0, 900)]),
        ];
        for chart in charts {
            let Some(chart) = chart else { panic!("there is no chart") };
            for svg in [chart.wide, chart.narrow] {
                assert!(
                    svg.contains("var(--mark)") && svg.contains("var(--quiet)") && svg.contains("viewBox")
                );
                assert!(!svg.contains("\"#"), "{svg}");
            }
        }
        assert!(
            histogram("a", "tokens", &[]).is_none() && rate("b", "rows/s", &[(0.0, 0.0, 0.0)], &[]).is_none()
        );
    }
}
