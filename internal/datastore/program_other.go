//go:build !linux

package datastore

// releaseProgram does nothing: only Linux is told.
func releaseProgram() {}
