package main

import (
	"testing"

	"riparo/hypervisor"
	"riparo/replication/lifecycle"
	"riparo/web/api"
)

// TestAStoppedReplicaIsNotGivenUp: whoever commits while the replica is stopped is told
// how to keep what it wrote, and keeps it.
func TestAStoppedReplicaIsNotGivenUp(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.protected(t, "WEB01", 5)
	must[asked](t, d.at("failover", "WEB01", "--unplanned", "--confirm", "WEB01", "--wait")...)
	m := must[api.Machine](t, d.at("machines", "show", "WEB01")...)
	site, ref := d.site(t, "torino"), hypervisor.Ref(m.Target.Ref)
	if _, err := site.Stop(t.Context(), ref, 0); err != nil {
		t.Fatal(err)
	}
	_, out, _ := call(t.Context(), d.at("commit", "WEB01", "--wait", "--json")...)
	if code, cause, _, remedy := problemOf(t, out); code != "replica.stopped" {
		t.Fatalf("commit of a stopped replica: %s: %s; %s; want replica.stopped", code, cause, remedy)
	}
	if err := site.Start(t.Context(), ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	must[asked](t, d.at("commit", "WEB01", "--wait")...)
	if m := must[api.Machine](t, d.at("machines", "show", "WEB01")...); m.State != lifecycle.Committed || m.Target.Ref != string(ref) {
		t.Errorf("%s is %s with replica %s, want committed with %s", m.Name, m.State, m.Target.Ref, ref)
	}
}
