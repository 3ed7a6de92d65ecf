// Package asset holds the files that browsers load beside a page: one style
// sheet, one script, one icon. They are served under a name that contains their
// hash, for ever.
//
// # Why there is no library here
//
// Third-party code is never copied into the repository, and building Riparo takes
// Go alone: no Node, no bundler, nothing from a content network. What a library
// would do for this console is little, because the server renders everything:
//
//   - live.js (some 300 lines) keeps one WebSocket, morphs fragments into the page
//     without losing focus, scroll position or what somebody types, opens pages as
//     dialogs, arms type-to-confirm buttons and moves the slider of recovery
//     points. Without it every page still works: links lead to pages, forms post.
//   - Charts are SVG drawn by the server, with a description and a table.
//   - Icons are our own drawings, inlined by package view.
//   - Text is set in the reader's own system font; there is nothing to download.
//
// The whole is smaller than the smallest framework, has no release to follow, and
// runs under a Content-Security-Policy that allows no inline script or style and
// no evaluation.
package asset
