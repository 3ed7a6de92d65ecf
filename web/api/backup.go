package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"riparo/replication"
	"riparo/store"
)

// Upkeep is what concerns the appliance itself.
type Upkeep interface {
	// BackUp starts a job that saves the state of the appliance now.
	BackUp(ctx context.Context, actor string) (job string, err error)
	Backups(ctx context.Context) (Backups, error)
	// OpenBackup gives a kept backup to read.
	OpenBackup(name string) (*os.File, error)
	// SaveBackupPlan keeps the plan; an empty passphrase leaves the one there is.
	SaveBackupPlan(ctx context.Context, actor string, p BackupPlan) error
	// TakeBackup keeps a backup that somebody sends to an appliance that is not claimed,
	// in the place of one that came before; size is -1 when nobody knows it.
	TakeBackup(ctx context.Context, r io.Reader, size int64) (Backup, error)
	// TakenBackup tells of the one that is kept.
	TakenBackup() (b Backup, there bool, err error)
	// Restore opens a backup, and when all of it is good lets the daemon begin again
	// with it. It is for an appliance that is not claimed.
	Restore(ctx context.Context, r RestoreRequest) (Restored, error)
}

// RestoreRequest is a backup to be brought back.
type RestoreRequest struct {
	Backup     io.Reader // nil: the one that TakeBackup keeps
	Passphrase string
	Vault      string // where the vault is now; empty: where the backup says
	Address    string // that the console is reached under from now on; empty: as before
	Actor      string
}

// MaxBackup is the most that TakeBackup takes: what a state file may grow to, four
// times, and 64 MiB of keys.
const MaxBackup = 4<<30 + 64<<20

// Restored is what came back.
type Restored struct {
	Appliance string    `json:"appliance"`
	Created   time.Time `json:"created"`
	Machines  int       `json:"machines"`
	Jobs      int       `json:"jobs"`
	// Interrupted are the jobs that were under way, which do not go on by themselves, and
	// Tokens the API tokens that are good, as they were then.
	Interrupted int `json:"interrupted"`
	Tokens      int `json:"tokens"`
}

// BackupPlan is how the appliance saves its own state.
type BackupPlan struct {
	Folder       string `json:"folder" maxLength:"1000" doc:"A full path, best on another disk or a share."`
	EverySeconds int64  `json:"every_seconds" minimum:"0" doc:"0: only when asked for."`
	Keep         int    `json:"keep" minimum:"1" maximum:"10000"`
	Passphrase   string `json:"passphrase,omitempty" maxLength:"1024" doc:"Opens the backups made from now on. It is kept nowhere. Empty: as before."`
}

// Backups are those that are kept, and how they are made.
type Backups struct {
	Plan    BackupPlan     `json:"plan"`
	Sealed  bool           `json:"sealed" doc:"A passphrase was chosen; without one no backup is made."`
	Saved   time.Time      `json:"saved,omitzero" doc:"When the newest one was made."`
	Problem *store.Finding `json:"problem,omitempty" doc:"Why the last attempt gave none."`
	Kept    []Backup       `json:"kept" nullable:"false"`
}

// Backup is a backup in the folder.
type Backup struct {
	Name      string    `json:"name"`
	Appliance string    `json:"appliance"`
	Version   string    `json:"version"`
	Created   time.Time `json:"created"`
	Bytes     int64     `json:"bytes"`
	Problem   *Problem  `json:"problem,omitempty"`
}

// fetchTime is for a backup to go over a slow line: a gigabyte at 2.5 Mbit/s.
const fetchTime = time.Hour

type planInput struct{ Body BackupPlan }

func (a *API) backups() {
	const tag = "Appliance"
	add(a, operation{id: "list-backups", method: "GET", path: "/api/v1/backups", tag: tag, summary: "The appliance's own backups and how they are made"},
		func(ctx context.Context, _ *none) (*body[Backups], error) { return answer(a.Appliance.Backups(ctx)) })
	add(a, operation{id: "back-up", method: "POST", path: "/api/v1/backups", tag: tag, summary: "Save the state of the appliance now", status: http.StatusAccepted},
		func(ctx context.Context, _ *none) (*body[Started], error) {
			job, err := a.Appliance.BackUp(ctx, callerOf(ctx).Name)
			return answer(Started{Job: job}, err)
		})
	add(a, operation{id: "save-backup-plan", method: "PUT", path: "/api/v1/backups/plan", tag: tag, summary: "Say where to, how often and how many backups are kept"},
		func(ctx context.Context, in *planInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.SaveBackupPlan(ctx, callerOf(ctx).Name, in.Body))
		})
	add(a, operation{id: "get-backup", method: "GET", path: "/api/v1/backups/{name}", tag: tag, summary: "One backup, sealed as it is"},
		func(ctx context.Context, in *nameInput) (*huma.StreamResponse, error) {
			f, err := a.Appliance.OpenBackup(in.Name)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				defer f.Close()
				_, w := humago.Unwrap(hc)
				http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fetchTime)) // not supported by every writer in tests
				if info, err := f.Stat(); err == nil {
					hc.SetHeader("Content-Length", strconv.FormatInt(info.Size(), 10))
				}
				hc.SetHeader("Content-Type", "application/octet-stream")
				hc.SetHeader("Content-Disposition", `attachment; filename="`+in.Name+`"`)
				if _, err := io.Copy(hc.BodyWriter(), f); err != nil {
					a.Logger.Warn("a backup was not sent as a whole", "name", in.Name, "error", err)
				}
			}}, nil
		})
}

// Backups lists the appliance's own backups and how they are made.
func (c *Client) Backups(ctx context.Context) (Backups, error) {
	return get[Backups](ctx, c, "/api/v1/backups", nil)
}

// BackUp saves the state of the appliance now.
func (c *Client) BackUp(ctx context.Context) (Started, error) {
	var out Started
	err := c.call(ctx, http.MethodPost, "/api/v1/backups", nil, nil, &out)
	return out, err
}

// SaveBackupPlan says where to, how often and how many backups are kept.
func (c *Client) SaveBackupPlan(ctx context.Context, p BackupPlan) error {
	return c.call(ctx, http.MethodPut, "/api/v1/backups/plan", nil, p, nil)
}

// FetchBackup writes a backup to w.
func (c *Client) FetchBackup(ctx context.Context, name string, w io.Writer) (int64, error) {
	response, err := c.send(ctx, http.MethodGet, "/api/v1/backups/"+segment(name), url.Values{}, nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	n, err := io.Copy(w, response.Body)
	if err == nil && response.ContentLength > 0 && n != response.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, &replication.Problem{Code: "client.cut", Cause: fmt.Sprintf("the backup did not come as a whole: %v", err), Effect: "what came of it is of no use",
			Action: "give the command again", Remedy: replication.Retry, Err: err}
	}
	return n, nil
}
