// Package bundle packs into one ZIP file what somebody needs who is to help: the
// log, the records, figures, and how the program was. Before it is made it can be
// said what will be in it.
//
// No secret leaves: sessions are left out, what the records call a secret is
// replaced, and each of those secrets is looked for in everything else too, as well
// as what looks like one. What remains are names, addresses and what happened: it
// is for somebody who is trusted with those.
package bundle
