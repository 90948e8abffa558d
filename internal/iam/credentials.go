package iam

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"gopkg.in/ini.v1"

	"github.com/tarn-fhir/tarn/internal/durable"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// Credentials are one access key.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
}

// String hides the secret.
func (c Credentials) String() string { return "access key " + c.AccessKeyID }

// GoString hides the secret.
func (c Credentials) GoString() string { return c.String() }

// Profile is the profile under which a server's credentials file holds its key.
const Profile = "tarn"

// Sizes of a made access key, as AWS's: 20 characters beginning AKIA, and a
// secret of 40.
const (
	keyIDBytes  = 10
	secretBytes = 30
)

// NewCredentials makes an access key.
func NewCredentials(random io.Reader) (Credentials, error) {
	raw := make([]byte, keyIDBytes+secretBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return Credentials{}, fault.Wrap(fault.Internal, "iam.NewCredentials", err)
	}
	return Credentials{
		AccessKeyID:     "AKIA" + base32.StdEncoding.EncodeToString(raw[:keyIDBytes]),
		SecretAccessKey: base64.StdEncoding.EncodeToString(raw[keyIDBytes:]),
	}, nil
}

// LoadOrMake reads the root's key from the file, or makes both.
func LoadOrMake(path string) (Credentials, error) {
	c, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if c, err = NewCredentials(rand.Reader); err != nil {
		return c, err
	}
	return c, c.save(path)
}

// Load reads a credentials file; it must not be readable by others.
func Load(path string) (Credentials, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Credentials{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Credentials{}, fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it", path, info.Mode().Perm())
	}
	file, err := ini.Load(path)
	if err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	section := file.Section(Profile)
	c := Credentials{section.Key("aws_access_key_id").String(), section.Key("aws_secret_access_key").String()}
	if c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return c, fmt.Errorf("%s has no complete profile [%s]", path, Profile)
	}
	return c, nil
}

// save writes the file, mode 0600.
func (c Credentials) save(path string) error {
	text := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", Profile, c.AccessKeyID, c.SecretAccessKey)
	return durable.Write(path, []byte(text))
}
