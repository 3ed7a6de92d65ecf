package web

import (
	"bufio"
	"net/http"

	"riparo/store/logs"
	"riparo/store/redact"
	"riparo/web/api"
)

// downloadLogs sends the lines that a filter chooses as they stand in the file, one
// JSON document a line, the oldest first.
func (k *Console) downloadLogs(w http.ResponseWriter, r *http.Request) {
	f := logFilterOf(r.URL.Query()).filter()
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Content-Disposition", `attachment; filename="riparo-log-`+k.Now().UTC().Format("20060102-150405")+`.jsonl"`)
	out := bufio.NewWriterSize(api.Patient(w), 64<<10)
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
