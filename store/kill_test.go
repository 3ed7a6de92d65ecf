package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"riparo/store"
)

// childPath is set in the environment of a child that writes until it is killed.
const childPath = "STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if err := writeForever(path); err != nil {
			fmt.Println("error:", err)
		}
		return
	}
	os.Exit(m.Run())
}

// writeForever counts. Each number is written to two tables in one transaction
// and printed once it is acknowledged.
func writeForever(path string) error {
	st, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	from := 0
	err = st.View(func(tx *store.Tx) error { _, err := tx.Setting("count", &from); return err })
	for i := from + 1; err == nil; i++ {
		err = st.Update(func(tx *store.Tx) error {
			return errors.Join(
				tx.Jobs().Put(store.Job{ID: fmt.Sprintf("%06d", i), Machine: fmt.Sprint("m-", i), State: store.InProgress, Kind: strings.Repeat("x", i*37%3000)}),
				tx.Jobs().Delete(fmt.Sprintf("%06d", i-20)),
				tx.SetSetting("count", i))
		})
		if err == nil {
			fmt.Println(i)
		}
	}
	return err
}

// A process that is killed at any moment has lost nothing that it acknowledged,
// and left nothing half done. Some kills hit the making of the file.
func TestNothingAcknowledgedIsLostByAKill(t *testing.T) {
	random := seeded(t)
	rounds := 25
	if testing.Short() {
		rounds = 8
	}
	if text := os.Getenv("STORE_KILLS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	path, acknowledged, all := "", 0, 0
	for round := range rounds {
		if round%5 == 0 {
			path, acknowledged = filepath.Join(t.TempDir(), "state.db"), 0
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childPath+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// Either soon after the start or after so many acknowledged numbers.
		lines := bufio.NewScanner(out)
		if round%2 == 0 {
			time.AfterFunc(time.Duration(random.IntN(40))*time.Millisecond, func() { child.Process.Kill() })
		}
		for n := random.IntN(30); lines.Scan(); n-- {
			number, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("round %d: the child says %q", round, lines.Text())
			}
			acknowledged = number
			all++
			if n <= 0 {
				child.Process.Kill()
			}
		}
		child.Wait()

		st, err := store.Open(path, store.Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		count := 0
		var last []store.Job
		err = st.View(func(tx *store.Tx) (err error) {
			_, err1 := tx.Setting("count", &count)
			last, err = tx.Jobs().Page("", 1, true)
			return errors.Join(err, err1)
		})
		if err := errors.Join(err, st.Check(), st.Close()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if count < acknowledged {
			t.Fatalf("round %d: %d was acknowledged, the store says %d", round, acknowledged, count)
		}
		if count > 0 && (len(last) != 1 || last[0].ID != fmt.Sprintf("%06d", count)) {
			t.Fatalf("round %d: the setting says %d, the last job is %v: half a transaction", round, count, last)
		}
	}
	t.Logf("%d kills, %d numbers acknowledged", rounds, all)
}
