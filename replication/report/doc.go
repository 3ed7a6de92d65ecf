// Package report holds what pages and metrics show of replication: plain figures,
// copied out once. It imports nothing but the words, so that a page which shows a
// report can never hold anything up.
package report
