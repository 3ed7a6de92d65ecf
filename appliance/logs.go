package appliance

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/DeRuina/timberjack"
)

const (
	// logFileMiB and logFiles bound what logs take: 10 files of 50 MiB are weeks of
	// an ordinary site, and the support bundle stays small enough to be mailed.
	logFileMiB = 50
	logFiles   = 10
)

// OpenLog opens the log of an appliance: JSON lines in DATA/logs, rotated.
func OpenLog(data string, level slog.Level) (*slog.Logger, io.Closer, error) {
	dir := filepath.Join(data, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the log folder: %w", err)
	}
	w := &timberjack.Logger{Filename: filepath.Join(dir, "riparo.log"), MaxSize: logFileMiB, MaxBackups: logFiles, FileMode: 0o600}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), w, nil
}
