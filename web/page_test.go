package web_test

import (
	"net/http"
	"strings"
	"testing"
)

var everyPage = []struct {
	path, en, it string // what must be there
}{
	{"/", "3 of 6 machines need attention", "3 macchine su 6 richiedono attenzione"},
	{"/machines", "sql-prod-01", "Da proteggere"},
	{"/machines?q=web&health=attention", "The filter hides all of them", "Il filtro le nasconde tutte"},
	{"/machines/m-4f7c21aa", "Recovery points", "Punti di ripristino"},
	{"/machines/m-4f7c21aa?window=all", "Test failover", "Failover di test"},
	{"/machines/m-77aa01fe", "Runs at Roma: commit", "In funzione a Roma: confermare"},
	{"/machines/m-91ce0b33", "Initial replication", "Replica iniziale"},
	{"/machines/m-c0ffee00", "Shut the source down", "Replica inversa"},
	{"/machines/m-4f7c21aa/test-failover", "A new isolated network", "Una nuova rete isolata"},
	{"/machines/m-4f7c21aa/planned-failover", "Type the name to confirm", "Digitare il nome per confermare"},
	{"/machines/m-4f7c21aa/unplanned-failover", "Data loss if you choose it", "Perdita di dati se lo si sceglie"},
	{"/machines/m-77aa01fe/change-recovery-point", "Starts the replica again", "Riavvia la replica"},
	{"/machines/m-77aa01fe/commit", "Decides for the recovery point", "Decide per il punto"},
	{"/machines/m-a2b3c4d5/cleanup-test-failover", "What did the test show", "Che cosa ha mostrato il test"},
	{"/machines/m-4f7c21aa/disable-protection", "Keep the recovery points", "Conserva i punti"},
	{"/machines/m-4f7c21aa/pause", "the RPO grows until you resume", "RPO cresce"},
	{"/protect?site=Milano&ref=r-9", "print01", "Verso dove"},
	{"/protect?site=Milano&ref=gone", "not there any more", "non c&#39;è più"},
	{"/jobs", "Enable protection", "Attivazione della protezione"},
	{"/jobs?state=failed", "printed nothing", "Failover di test"},
	{"/jobs/20261123T070000.000Z-0000003", "Go on at the failed step", "Riprendi dal passo non riuscito"},
	{"/jobs/20261123T080100.000Z-0000002", "Remove it and go on", "Risposta"},
	{"/events", "claimed by anna", "Che cosa è successo"},
	{"/events?severity=critical&machine=m-c0ffee00", "both are active", "Critici"},
	{"/infrastructure", "Emulated", "Emulato"},
	{"/infrastructure", "Who shelters whom", "Chi protegge chi"},
	{"/infrastructure/add", "Contact and add", "Contatta e aggiungi"},
	{"/infrastructure/Roma/trust", "No authority that this computer knows", "Non l&#39;ha emesso"},
	{"/machines?sort=-rpo&hide=route,state", "aria-sort=\"descending\"", "Colonne"},
	{"/reports", "Test failovers", "Failover di test"},
	{"/reports?days=7", "Objective met", "Obiettivo rispettato"},
	{"/reports/drills/20261122T070000.000Z-0000004", "RTO achieved", "Failover di test di"},
	{"/logs/bundle", "Secrets are taken out", "I segreti sono tolti"},
	{"/logs", "the send queue is over its limit", "{n} righe nuove"},
	{"/logs?level=error&wrap=1", "no heartbeat", "A capo"},
	{"/logs?q=torn", "torn by a", "Scarica"},
	{"/logs?q=job:nobody", "No line matches", "Nessuna riga corrisponde"},
	{"/policies", "one in 5 min for 1 d", "uno ogni 5 min per 1 g"},
	{"/policies/gold", "A change holds from the next cycle", "Una modifica vale dal ciclo"},
	{"/policies/new", "begins with what suits", "Parte da ciò"},
	{"/settings", "API tokens", "Token API"},
	{"/settings/users", "Whoever signs in with this password", "Chi accede con questa password"},
	{"/settings/users/anna", "About", "Informazioni"},
	{"/settings/users/carla", "Reset the password", "Reimposta la password"},
	{"/settings/tokens", "A token is no session", "Un token non è una sessione"},
	{"/settings/sign-in", "Test and save", "Prova e salva"},
	{"/account", "Set up one-time codes", "Configura i codici monouso"},
	{"/setup/appliance", "What people call this appliance", "Come si chiama questa appliance"},
	{"/setup/network", "No proxy", "Nessun proxy"},
	{"/setup/certificate", "issued by this appliance", "emesso da questa appliance"},
	{"/setup/roles", "Process server", "tre ruoli"},
	{"/setup/vault", "Folder of the vault", "Cartella del vault"},
	{"/setup/site", "qemu+tls://dr1", "Salta"},
	{"/setup/policy", "First policy", "Primo criterio"},
	{"/setup/checks", "Run all checks", "Verifica tutto"},
	{"/setup/finish", "Left open", "Rimasto aperto"},
	{"/settings/appliance", "Guided setup", "Configurazione guidata"},
	{"/settings/certificate", "Use a certificate of your own", "Usa un certificato proprio"},
	{"/settings/notifications", "Who gets mail", "Chi riceve posta"},
	{"/settings/backup", "It is kept nowhere", "Non si conserva"},
	{"/settings/about", "Dashboard for Grafana", "Cruscotto per Grafana"},
	{"/settings/licenses/0011223344ff", "as its authors wrote it", "come l&#39;hanno scritto gli autori"},
	{"/alerts", "All is as it should be", "Tutto è come dovrebbe"},
	{"/audit?verify=now", "The chain is sound", "La catena è integra"},
	{"/help", "A <em>shelter</em>", "Guida"},
	{"/help?q=SHELTER+failover", "<mark>shelter</mark>", "Che cosa dice il manuale"},
	{"/help?q=nothing+of+the+kind", "Try fewer words", "Provare con meno parole"},
	{"/help/failover", "<li>first", "<li>first"},
}

func TestEveryPageIsPrintedInBothLanguages(t *testing.T) {
	h := newHouse(t, true).claimed().populated()
	b := h.signedIn("")
	for _, lang := range []string{"en", "it"} {
		if err := h.identity.SetLanguage(user, lang); err != nil {
			t.Fatal(err)
		}
		for _, p := range everyPage {
			a := b.get(p.path)
			want := map[string]string{"en": p.en, "it": p.it}[lang]
			if a.status != http.StatusOK || !strings.Contains(a.body, want) {
				t.Errorf("%s in %s: got %d without %q", p.path, lang, a.status, want)
			}
			if !strings.Contains(a.body, `<html lang="`+lang+`"`) {
				t.Errorf("%s: does not say that it is in %s", p.path, lang)
			}
			for _, bad := range []string{"⟦", "<no value>", "&lt;no value", "%!", "MISSING", " style=", " onclick=", "<script>"} {
				if strings.Contains(a.body, bad) {
					t.Errorf("%s in %s contains %q", p.path, lang, bad)
				}
			}
			if len(a.body) > 200<<10 {
				t.Errorf("%s takes %d bytes: want at most 200 KiB", p.path, len(a.body))
			}
		}
	}
}

func TestAPageWithoutMachinesTeachesTheNextStep(t *testing.T) {
	h := newHouse(t, false).claimed()
	b := h.signedIn("")
	a := b.get("/")
	for _, want := range []string{"Nothing is protected yet", "/infrastructure/add", "Prove it"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the overview of an empty appliance lacks %q", want)
		}
	}
	if a := b.get("/machines"); !strings.Contains(a.body, "No site yet") {
		t.Error("the machines of an empty appliance do not lead to a site")
	}
	if a := b.get("/setup/site"); !strings.Contains(a.body, "Site to protect") || strings.Contains(a.body, "the sites above") {
		t.Error("the setup speaks of sites above where there are none")
	}
}

func TestAnUnknownRPOIsNeverShownAsZero(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	a := b.get("/machines/m-91ce0b33")
	i := strings.Index(a.body, "RPO now")
	if i < 0 || !strings.Contains(a.body[i:i+120], "unknown") {
		t.Errorf("the RPO of a machine without a point is not called unknown: %.160s", a.body[max(i, 0):])
	}
}

func TestAnUnknownPageIsSaid(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	for path, want := range map[string]int{"/nothing": 404, "/machines/m-none": 404, "/jobs/none": 404, "/help/none": 404, "/machines/m-91ce0b33/commit": 409, "/machines/m-none/pause": 404} {
		if a := b.get(path); a.status != want || !strings.Contains(a.body, "</html>") {
			t.Errorf("GET %s: got %d, want %d as a page", path, a.status, want)
		}
	}
}

func TestTimesFollowTheReadersZone(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	if a := b.get("/settings"); !strings.Contains(a.body, " UTC") {
		t.Error("without a zone, times do not say that they are UTC")
	}
	b.header.Set("Cookie", "zone=Europe%2FRome")
	if a := b.get("/settings"); strings.Contains(a.body, " UTC<") {
		t.Error("with a zone, times are still in UTC")
	}
	b.header.Set("Cookie", "zone=..%2F..%2Fetc%2Fpasswd")
	if a := b.get("/settings"); a.status != 200 || !strings.Contains(a.body, " UTC") {
		t.Errorf("a zone that is none: got %d", a.status)
	}
}

func TestTheManualCannotCarryScript(t *testing.T) {
	h := newHouse(t, true).claimed()
	a := h.signedIn("").get("/help")
	if strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, "javascript:") {
		t.Error("the manual carries script")
	}
	if !strings.Contains(a.body, `href="/help/failover"`) || !strings.Contains(a.body, "riparo &lt;verb&gt;") {
		t.Error("the manual lost a link or its code")
	}
}
