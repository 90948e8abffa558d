// Package seal keeps everything that Tarn writes to disk unreadable to whoever
// holds the disk but not the key.
//
//	KMS key (localkms, awskms)  ── wraps ──▶  data key, 32 bytes, one per data store
//	data key ── HKDF-SHA256, one label each ──▶  "files", "values mac", "hash", …
//	"files"  ── HKDF-SHA256, 32 bytes of salt in each file's header ──▶  AES-256-CTR
//
//	Keyring   GenerateDataKey  Unwrap  Resolve      asks a KMS
//	DataKey   Derive  Equal  Wipe                   lives in memory only
//	Wrapped   MarshalJSON  MarshalBinary            what may be written down
//	FS        Create  Open  …                       a sealed file system for Pebble
//	MAC                                             16 bytes that bind a value to its place
//	Box       Seal  Open                            small blobs: page tokens, secrets
//
// A data store's key is made once, kept wrapped beside the store's record, and
// unwrapped each time the store is opened:
//
//	key, wrapped, err := ring.GenerateDataKey(ctx, "alias/records", context)
//	…
//	key, err := ring.Unwrap(ctx, wrapped, context)
//	fs := seal.NewFS(vfs.Default, key)
//	key.Wipe()
//
// DESIGN.md draws the hierarchy and the bytes, and says what is not covered.
package seal
