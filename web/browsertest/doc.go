// Package browsertest drives a real Chromium in tests: it visits pages, types and
// clicks as people do, waits for what they would wait for, and asks axe-core whether
// anybody is kept out. Without Chromium the test is skipped.
package browsertest
