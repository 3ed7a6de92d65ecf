package view

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Int is a whole number with groups of thousands: 12,345 or 12.345.
func (w *Words) Int(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString(w.T("format.thousands"))
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Number is v with the given number of decimals.
func (w *Words) Number(v float64, decimals int) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(v, 'f', decimals, 64), ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return whole
	}
	text := w.Int(n)
	if n == 0 && strings.HasPrefix(whole, "-") {
		text = "-" + text
	}
	if fraction != "" {
		text += w.T("format.decimal") + fraction
	}
	return text
}

// Percent is part of whole, or "unknown" when there is no whole.
func (w *Words) Percent(part, whole int64) string {
	if whole <= 0 {
		return w.T("unknown")
	}
	return w.Number(float64(part)*100/float64(whole), 0) + " %"
}

var byteUnits = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}

// BytesParts is a number of bytes as number and unit, three digits at most.
func (w *Words) BytesParts(n float64) (number, unit string) {
	i := 0
	for math.Abs(n) >= 999.5 && i < len(byteUnits)-1 {
		n /= 1024
		i++
	}
	decimals := 1
	if i == 0 || math.Abs(n) >= 99.95 || n == math.Trunc(n) {
		decimals = 0
	}
	return w.Number(n, decimals), byteUnits[i]
}

// Bytes is a number of bytes: 14.2 GiB.
func (w *Words) Bytes(n int64) string {
	number, unit := w.BytesParts(float64(n))
	return number + " " + unit
}

// Rate is a number of bytes per second: 4.8 MiB/s.
func (w *Words) Rate(perSecond float64) string {
	number, unit := w.BytesParts(perSecond)
	return number + " " + unit + "/s"
}

// Duration is d in its two largest units: 23 s, 4 min 10 s, 3 d 4 h. Below a
// second it is in milliseconds, below ten with a decimal. The script that ticks ages writes the same.
func (w *Words) Duration(d time.Duration) string {
	number, unit := w.DurationParts(d)
	return number + " " + unit
}

// DurationParts is d with its last unit apart, for large figures.
func (w *Words) DurationParts(d time.Duration) (number, unit string) {
	if d < 0 {
		d = 0
	}
	if d > 0 && d < time.Second {
		return strconv.FormatInt(max(1, d.Milliseconds()), 10), "ms"
	}
	if d < 10*time.Second && d%time.Second != 0 {
		return w.Number(d.Seconds(), 1), "s"
	}
	s := int64(d / time.Second)
	day := w.T("format.day")
	two := func(large int64, unit string, small int64, smallUnit string) (string, string) {
		if small == 0 {
			return strconv.FormatInt(large, 10), unit
		}
		return strconv.FormatInt(large, 10) + " " + unit + " " + strconv.FormatInt(small, 10), smallUnit
	}
	switch {
	case s < 60:
		return strconv.FormatInt(s, 10), "s"
	case s < 3600:
		return two(s/60, "min", s%60, "s")
	case s < 86400:
		return two(s/3600, "h", s%3600/60, "min")
	}
	return two(s/86400, day, s%86400/3600, "h")
}

// Setting is d as somebody would set it: 30 s, 15 min, 1 h, off for 0.
func (w *Words) Setting(d time.Duration) string {
	if d == 0 {
		return w.T("off")
	}
	return w.Duration(d)
}

// Time is an instant with its date, to the second: 23 Nov 2026, 10:03:15.
func (w *Words) Time(t time.Time) string {
	if t.IsZero() {
		return w.T("unknown")
	}
	t = t.In(w.zone)
	return w.day(t) + " " + strconv.Itoa(t.Year()) + ", " + t.Format("15:04:05") + w.suffix()
}

// Short is an instant seen from now: the time of day, with the day when it is
// another one.
func (w *Words) Short(t, now time.Time) string {
	if t.IsZero() {
		return w.T("unknown")
	}
	t, now = t.In(w.zone), now.In(w.zone)
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05") + w.suffix()
	}
	if t.Year() == now.Year() {
		return w.day(t) + ", " + t.Format("15:04") + w.suffix()
	}
	return w.day(t) + " " + strconv.Itoa(t.Year()) + w.suffix()
}

// Clock is the time of day, for axes.
func (w *Words) Clock(t time.Time) string { return t.In(w.zone).Format("15:04") }

// Day is the date without its year, for axes.
func (w *Words) Day(t time.Time) string { return w.day(t.In(w.zone)) }

func (w *Words) day(t time.Time) string {
	months := strings.Fields(w.T("format.months"))
	return strconv.Itoa(t.Day()) + " " + months[t.Month()-1]
}

func (w *Words) suffix() string {
	if w.utc {
		return " UTC"
	}
	return ""
}

// Ago is how long ago t was: "12 s ago".
func (w *Words) Ago(t, now time.Time) string {
	if t.IsZero() {
		return w.T("never")
	}
	return w.T("format.ago", "Age", w.Duration(now.Sub(t).Truncate(time.Second)))
}

// Number100 is a share as a number of hundredths, for attributes that scripts
// read: never in the reader's own format.
func (w *Words) Number100(share float64) string {
	return strconv.FormatFloat(share*100, 'f', 2, 64)
}
