//go:build !noclouds

package blob

// The clouds that Cloud knows: a third of the executable. With -tags noclouds it
// has none of them.
import (
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
)
