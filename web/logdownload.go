package web

import (
	"bufio"
	"net/http"
	"time"

	"riparo/store/logs"
	"riparo/store/redact"
)

// downloadLogs sends the lines that a filter chooses as they stand in the file, one
// JSON document a line, the oldest first.
func (k *Console) downloadLogs(w http.ResponseWriter, r *http.Request) {
	f := logFilterOf(r.URL.Query()).filter()
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Content-Disposition", `attachment; filename="riparo-log-`+k.Now().UTC().Format("20060102-150405")+`.jsonl"`)
	out := bufio.NewWriterSize(patient(w), 64<<10)
	err := k.Logs.Each(r.Context(), f, func(l logs.Line) bool {
		_, err := out.WriteString(redact.Text(l.Raw) + "\n")
		return err == nil
	})
	if err == nil {
		err = out.Flush()
	}
	if err != nil && r.Context().Err() == nil {
		k.Logger.Warn("a download of the log broke off", "error", err)
	}
}

// patience is how long a browser may take for each part of a long download. The
// whole may take as long as it needs.
const patience = 30 * time.Second

type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func patient(w http.ResponseWriter) patientWriter {
	return patientWriter{w, http.NewResponseController(w)}
}

func (w patientWriter) Write(p []byte) (int, error) {
	w.control.SetWriteDeadline(time.Now().Add(patience)) // not supported by every writer in tests
	return w.ResponseWriter.Write(p)
}
