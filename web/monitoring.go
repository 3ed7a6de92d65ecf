package web

import (
	"embed"
	"net/http"
)

//go:embed monitoring
var monitoring embed.FS

// Monitoring gives the rules of alerts for Prometheus, "rules.yml", or the dashboard
// for Grafana, "dashboard.json". Both name only figures that /metrics gives.
func Monitoring(name string) ([]byte, error) { return monitoring.ReadFile("monitoring/" + name) }

func (k *Console) monitoringFile(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := Monitoring(name)
		if err != nil {
			k.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Disposition", `attachment; filename="riparo-`+name+`"`)
		w.Write(text)
	}
}
