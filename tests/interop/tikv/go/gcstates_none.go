//go:build v2_0_7

package main

// The calls for the state of garbage collection are younger than this client.
func (t *test) moreTests() {}
