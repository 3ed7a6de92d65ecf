package vault

// serial numbers the records of one disk's log: 1, 2, 3, … without gaps, whoever
// caused them. The sender's sequence numbers only its own batches and marks.
type serial uint64
