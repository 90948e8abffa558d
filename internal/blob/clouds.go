//go:build clouds

package blob

// The clouds that Cloud knows, with -tags clouds; without, it has none of them.
// They are a third of the executable, and make what an idle server keeps resident
// more than it may be.
import (
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
)
