package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// barColors can be distinguished by colour-blind people.
var barColors = []color.Color{
	color.RGBA{0x56, 0xB4, 0xE9, 0xFF},
	color.RGBA{0xE6, 0x9F, 0x00, 0xFF},
	color.RGBA{0x00, 0x9E, 0x73, 0xFF},
	color.RGBA{0xCC, 0x79, 0xA7, 0xFF},
}

// room is a margin of non-breaking spaces, for viewers with a wider font.
const room = "\u00A0\u00A0\u00A0\u00A0"

// drawRates draws the deliveries per second as SVG: one bar for each system and number of subscribers, from
// zero to the median, with a line from the minimum to the maximum.
func drawRates(file string, r *results) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = "Million deliveries per second, 256-byte events (median; line: least to most)"
	p.Title.Padding = vg.Points(8)
	p.X.Min = 0
	p.X.Tick.Marker = plot.TickerFunc(halves)
	p.X.Tick.Label.Font.Size = vg.Points(11)
	p.Legend.ThumbnailWidth = vg.Points(14)
	p.Legend.Padding = vg.Points(4)
	p.Legend.XOffs, p.Legend.YOffs = -vg.Points(10), vg.Points(6)

	var shown []contestant
	for _, c := range slices.Backward(contestants) { // from the bottom to the top
		if slices.Contains(r.Systems, c.name) {
			shown = append(shown, c)
		}
	}
	var names []string
	for _, c := range shown {
		names = append(names, c.title+room)
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Width = 0
	p.Add(grid)

	const barWidth = 9 // points
	lane := 0.8 / float64(len(r.Numbers))
	for i, n := range r.Numbers {
		at := (float64(len(r.Numbers)-1)/2 - float64(i)) * lane
		var medians plotter.Values
		var ranges whiskers
		for j, c := range shown {
			s := summarize(r.values(c.name, metricRate, n))
			medians = append(medians, s.median/1e6)
			ranges.XYs = append(ranges.XYs, plotter.XY{X: s.median / 1e6, Y: float64(j) + at})
			ranges.XErrors = append(ranges.XErrors, struct{ Low, High float64 }{(s.median - s.min) / 1e6, (s.max - s.median) / 1e6})
		}
		bars, err := plotter.NewBarChart(medians, vg.Points(barWidth))
		if err != nil {
			return err
		}
		bars.Horizontal = true
		bars.XMin = at
		bars.LineStyle.Width = 0
		bars.Color = barColors[i%len(barColors)]
		lines, err := plotter.NewXErrorBars(ranges)
		if err != nil {
			return err
		}
		p.Add(bars, lines)
		p.Legend.Add(fmt.Sprintf("%d subscribers%s", n, room), bars)
	}
	p.NominalY(names...)
	p.Y.Tick.Label.Font.Size = vg.Points(11)
	p.X.Max *= 1.02

	height := vg.Points(90 + float64(len(shown)*len(r.Numbers))*(barWidth+3))
	canvas := vgsvg.New(vg.Points(800), height)
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(20), -vg.Points(10), vg.Points(6), -vg.Points(10)))
	var buf bytes.Buffer
	if _, err := canvas.WriteTo(&buf); err != nil {
		return err
	}
	// If the font is not installed, another sans-serif font is used.
	text := bytes.ReplaceAll(buf.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	return os.WriteFile(file, text, 0o644)
}

// whiskers are the ranges from minimum to maximum.
type whiskers struct {
	plotter.XYs
	plotter.XErrors
}

// halves are ticks at each half, with a label at each, or, if there are many, only at whole numbers.
func halves(_, most float64) (ticks []plot.Tick) {
	for i := 0; float64(i)/2 <= most; i++ {
		tick := plot.Tick{Value: float64(i) / 2}
		if most <= 5 || i%2 == 0 {
			tick.Label = fmt.Sprint(tick.Value)
		}
		ticks = append(ticks, tick)
	}
	return ticks
}
