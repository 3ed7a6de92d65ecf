package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWrongUsageEndsWithTwoAndPrintsNoResult(t *testing.T) {
	vault := t.TempDir()
	for _, line := range []string{
		"",
		"nosuch",
		"--nosuch",
		"disk",
		"disk nosuch",
		"disk replicat",
		"completion nosuch",
		"help nosuch",
		"version extra",
		"version --output xml",
		"disk points",
		"disk points --vault",
		"disk points extra --vault " + vault,
		"disk points --vault " + vault + " --disk ../escape",
		"disk replicate --vault " + vault + " --disk d",
		"disk replicate a b --vault " + vault + " --disk d",
		"disk replicate a --vault " + vault,
		"disk replicate a --vault " + vault + " --disk .hidden",
		"disk replicate a --disk d",
		"disk export --vault " + vault + " --disk d",
		"disk export --vault " + vault + " --disk d --format floppy out",
		"disk serve --vault " + vault + " --disk d",
		"disk serve --vault " + vault + " --disk d --socket a --listen b:1",
		"disk serve --vault " + vault + " --disk d --listen nowhere",
		"disk prune --vault " + vault,
		"disk prune --vault " + vault + " --keep forever",
		"disk prune --vault " + vault + " --keep 1h:all,30m:all",
		"disk prune --vault " + vault + " --keep 1d:5m,1h:all",
		"disk verify --vault " + vault + " --repair-from x",
		"plans",
		"logs --level loud",
		"logs --since yesterday",
		"logs --since 2h3d",
		"demo --machines 0",
		"demo --disk-size 1MiB",
		"support-bundle a b",
		"servers",
		"backup nosuch",
		"backup fetch a",
		"restore",
		"restore file",
		"claim --token t",
		"claim --name admin",
		"machines nosuch",
		"machines list extra",
		"machines show",
		"points",
		"points a b",
		"points pin a",
		"points delete a b c",
		"dismiss-alarm",
		"approvals nosuch",
		"approvals approve",
		"kept nosuch",
		"kept list extra",
		"kept erase",
		"kept erase a b",
		"scrub nosuch",
		"protect",
		"protect m --site a --machine m --target b",
		"protect --site a --machine m",
		"protect --site a --target b",
		"test-failover",
		"test-failover cleanup",
		"failover m",
		"failover --planned",
		"failover m --planned --unplanned",
		"failover m --planned --point app",
		"failover m --planned --sync-first",
		"change-point m",
		"commit",
		"commit m --confirm m",
		"reverse",
		"failback",
		"pause m --wait",
		"disable",
		"jobs nosuch",
		"jobs show",
		"jobs cancel a b",
		"jobs answer a",
		"events extra",
		"audit nosuch",
		"audit verify extra",
		"audit export",
		"events --limit many",
		"events --follow --before x",
		"policies save",
		"policies save p --keep forever",
		"policies save p --lock-for soon",
		"policies save p --copy-every soon",
		"policies save p --bandwidth fast",
		"sites add",
		"sites add s",
		"sites add s --kind kvm-qmp",
		"sites remove",
		"sites discover extra",
		"tokens create",
		"tokens create t",
		"tokens create t --role viewer --life -1h",
		"tokens revoke",
		"users nosuch",
		"users add",
		"users add carla",
		"users role carla",
		"users remove",
		"users sessions nosuch",
		"users sessions end",
	} {
		status, out, errs := call(t.Context(), strings.Fields(line)...)
		if status != statusUsage || out != "" || !strings.Contains(errs, "usage: riparo") {
			t.Errorf("riparo %s: status %d, stdout %q, stderr %q", line, status, out, errs)
		}
	}
}

func TestHelpIsNotAnError(t *testing.T) {
	for _, line := range []string{"--help", "help", "help disk", "help disk replicate", "disk --help", "disk replicate --help", "completion bash", "completion zsh", "machines --help", "test-failover --help", "help test-failover cleanup", "help jobs show", "claim --help"} {
		status, out, errs := call(t.Context(), strings.Fields(line)...)
		if status != statusDone || out == "" || errs != "" {
			t.Errorf("riparo %s: status %d, stdout %q, stderr %q", line, status, out, errs)
		}
	}
}

func TestVersionSpeaksJSONEitherWay(t *testing.T) {
	for _, flags := range [][]string{{"--output", "json"}, {"-o", "json"}, {"--json"}} {
		_, out, _ := call(t.Context(), append([]string{"version"}, flags...)...)
		var v map[string]string
		if err := json.Unmarshal([]byte(out), &v); err != nil || v["version"] == "" {
			t.Errorf("%q: %q: %v", flags, out, err)
		}
	}
}

func TestANearMissIsToldTheRightWord(t *testing.T) {
	if _, _, errs := call(t.Context(), "disk", "replicat"); !strings.Contains(errs, "did you mean replicate?") {
		t.Errorf("got %q", errs)
	}
}
