// Package store keeps everything a plane must remember, in SQLite or in
// PostgreSQL, and holds every SQL statement of the product.
//
// Two ideas carry it. Write runs a caller's function inside a transaction that
// it shares with whoever else is writing at that moment, so one disk flush
// carries many writes. And every change gets a number in one sequence (feed):
// caches are filled from the store, emptied by the feed, and used only when
// Confirm has shown that nothing newer exists, on this plane or another.
//
// It knows nothing of what the rows mean: no decisions, no sealing. Open
// store.go first, then writer.go and feed.go; the other files are one noun each.
package store
