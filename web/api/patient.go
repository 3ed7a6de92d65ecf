package api

import (
	"io"
	"net/http"
	"time"
)

// patience is how long a client may take for each part of a long download. The
// whole may take as long as it needs.
const patience = 30 * time.Second

type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Patient gives a writer for an answer that takes longer than other requests may.
func Patient(w http.ResponseWriter) io.Writer {
	return patientWriter{w, http.NewResponseController(w)}
}

func (w patientWriter) Write(p []byte) (int, error) {
	w.control.SetWriteDeadline(time.Now().Add(patience)) // not supported by every writer in tests
	return w.ResponseWriter.Write(p)
}
