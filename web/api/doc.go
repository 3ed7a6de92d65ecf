// Package api is the HTTP API: what it asks of the daemon ([Appliance]), the
// operations with their OpenAPI description ([API]), and the [Client] that the
// command line uses.
//
// # Conventions
//
//   - Everything is below /api/v1 and speaks JSON. /api/openapi.json describes it.
//   - A request carries "Authorization: Bearer TOKEN", or the session cookie of a
//     browser that is signed in. Without either the answer is 401.
//   - A verb answers 202 with the job that does the work; the job is then read
//     under /api/v1/jobs/{id}.
//   - What goes wrong is application/problem+json with, beside what RFC 9457 asks
//     for, the code, cause, effect, action and remedy of a [replication.Problem].
//   - Lists of what grows (jobs, the event log) are pages, newest first: the next
//     one begins "before" the last ID of this one.
//   - /api/v1/events is a stream of server-sent events: "event" for each new entry
//     of the event log, "change" with the names of what changed. It ends when the token
//     or the session that opened it does.
//   - Durations are in nanoseconds where they belong to a policy, as in its record,
//     and in seconds where the name says so. Sizes are in bytes. An RPO that is not
//     known is null, never 0.
package api
