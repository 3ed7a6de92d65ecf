package web

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sheet is what a list is as a file.
type sheet struct {
	name string
	head []string
	rows [][]string
}

// sendSheet answers with a list as comma-separated values (RFC 4180), in the words
// of the API: a file is read by programs, whatever the language of the page.
func (k *Console) sendSheet(w http.ResponseWriter, s sheet) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="riparo-`+s.name+`-`+k.Now().UTC().Format("20060102")+`.csv"`)
	out := csv.NewWriter(w)
	out.UseCRLF = true
	out.Write(s.head)
	for _, row := range s.rows {
		for i, cell := range row {
			row[i] = inert(cell)
		}
		out.Write(row)
	}
	out.Flush() // who does not take it all sees a file that ends early
}

// inert keeps a spreadsheet from taking a name for a formula. Numbers are left.
func inert(cell string) string {
	if cell == "" || !strings.ContainsAny(cell[:1], "=+-@\t\r") {
		return cell
	}
	if _, err := strconv.ParseFloat(cell, 64); err == nil {
		return cell
	}
	return "'" + cell
}

// instant is a time in a file.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func decimal(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
