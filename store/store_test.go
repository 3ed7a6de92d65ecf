package store_test

import (
	"errors"
	"testing"

	"riparo/store"
	"riparo/store/storetest"
)

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	st := storetest.Open(t)
	want := store.Site{Name: "rome", Kind: "lab", Address: "sites/rome", Reachable: true}
	if err := store.Put(st, store.Sites, want); err != nil {
		t.Fatal(err)
	}
	got, err := store.Get(st, store.Sites, "rome")
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if err := store.Delete(st, store.Sites, "rome"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(st, store.Sites, "rome"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after Delete: got %v, want ErrNotFound", err)
	}
}
