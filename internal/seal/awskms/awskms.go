// Package awskms asks AWS KMS, or what speaks its protocol, for data keys.
//
//	GenerateDataKey   kms:GenerateDataKey, KeySpec AES_256, with the encryption context
//	Unwrap            kms:Decrypt, of the same key and context
//	Resolve           kms:DescribeKey
//
// The caller makes the client, so that regions, credentials, endpoints and
// retries are those of the AWS SDK and its environment variables:
//
//	config, err := config.LoadDefaultConfig(ctx)
//	ring := awskms.New(kms.NewFromConfig(config))
package awskms

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

// API is what is used of *kms.Client.
type API interface {
	GenerateDataKey(context.Context, *kms.GenerateDataKeyInput, ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
}

// Keyring is a seal.Keyring over AWS KMS.
type Keyring struct{ api API }

var _ seal.Keyring = (*Keyring)(nil)

// New makes a Keyring of a client.
func New(api API) *Keyring { return &Keyring{api} }

// GenerateDataKey makes and wraps a data key: seal.Keyring.
func (k *Keyring) GenerateDataKey(ctx context.Context, keyID string, encryption map[string]string) (seal.DataKey, seal.Wrapped, error) {
	const op = "awskms.GenerateDataKey"
	out, err := k.api.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: bare(keyID), KeySpec: types.DataKeySpecAes256, EncryptionContext: encryption,
	})
	if err != nil {
		return seal.DataKey{}, seal.Wrapped{}, k.refused(ctx, op, keyID, err)
	}
	defer clear(out.Plaintext)
	made, err := seal.DataKeyFrom(out.Plaintext)
	if err != nil {
		return seal.DataKey{}, seal.Wrapped{}, unsound(op, keyID, "a data key of another size")
	}
	wrapped := seal.Wrapped{KeyARN: aws.ToString(out.KeyId), Ciphertext: out.CiphertextBlob}
	if _, err := wrapped.MarshalBinary(); err != nil {
		made.Wipe()
		return seal.DataKey{}, seal.Wrapped{}, unsound(op, keyID, "a data key without its wrapped form")
	}
	return made, wrapped, nil
}

// Unwrap opens a wrapped data key: seal.Keyring.
func (k *Keyring) Unwrap(ctx context.Context, w seal.Wrapped, encryption map[string]string) (seal.DataKey, error) {
	const op = "awskms.Unwrap"
	out, err := k.api.Decrypt(ctx, &kms.DecryptInput{
		KeyId: aws.String(w.KeyARN), CiphertextBlob: w.Ciphertext, EncryptionContext: encryption,
	})
	if err != nil {
		return seal.DataKey{}, k.refused(ctx, op, w.KeyARN, err)
	}
	defer clear(out.Plaintext)
	opened, err := seal.DataKeyFrom(out.Plaintext)
	if err != nil || aws.ToString(out.KeyId) != w.KeyARN {
		opened.Wipe()
		return seal.DataKey{}, unsound(op, w.KeyARN, "what is no data key of this KMS key")
	}
	return opened, nil
}

// Resolve finds a key: seal.Keyring.
func (k *Keyring) Resolve(ctx context.Context, keyID string) (seal.KeyInfo, error) {
	const op = "awskms.Resolve"
	out, err := k.api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: bare(keyID)})
	if err != nil {
		return seal.KeyInfo{}, failure(ctx, op, keyID, err)
	}
	found := out.KeyMetadata
	if found == nil || aws.ToString(found.Arn) == "" {
		return seal.KeyInfo{}, unsound(op, keyID, "a key without an ARN")
	}
	return seal.KeyInfo{
		ARN:       aws.ToString(found.Arn),
		Enabled:   found.Enabled,
		Symmetric: found.KeySpec == types.KeySpecSymmetricDefault && found.KeyUsage == types.KeyUsageTypeEncryptDecrypt,
		Manager:   string(found.KeyManager),
		State:     string(found.KeyState),
	}, nil
}

// bare takes the "key/" off a "key/<id>": AWS KMS knows the id without it, and
// the ARN, but not the resource part of the ARN alone.
func bare(keyID string) *string { return aws.String(strings.TrimPrefix(keyID, "key/")) }

// kinds says what an error code of AWS KMS means. Codes that are not here say
// nothing about the key (throttling, internal errors, our own credentials):
// Unavailable.
var kinds = map[string]struct {
	kind   fault.Kind
	detail string
}{
	"NotFoundException":             {fault.NotFound, "no such key"},
	"DisabledException":             {fault.Forbidden, "the KMS key is disabled"},
	"KMSInvalidStateException":      {fault.Forbidden, "the KMS key is in a state in which it cannot be used"},
	"AccessDeniedException":         {fault.Forbidden, "the KMS key may not be used by this server"},
	"InvalidCiphertextException":    {fault.Forbidden, "key, encryption context and wrapped data key do not match"},
	"IncorrectKeyException":         {fault.Forbidden, "key, encryption context and wrapped data key do not match"},
	"InvalidKeyUsageException":      {fault.Invalid, "the KMS key is not a symmetric encryption key"},
	"UnsupportedOperationException": {fault.Invalid, "the KMS key is not a symmetric encryption key"},
	"InvalidArnException":           {fault.Invalid, "not the name of a KMS key"},
	"ValidationException":           {fault.Invalid, "not the name of a KMS key"},
}

// failure gives an error of the SDK its kind. What AWS says stays in Cause: it
// may name the server's own role.
func failure(ctx context.Context, op, keyID string, err error) *fault.Error {
	switch ctx.Err() {
	case context.Canceled:
		return &fault.Error{Kind: fault.Canceled, Op: op, Subject: keyID, Cause: err}
	case context.DeadlineExceeded:
		return &fault.Error{Kind: fault.Timeout, Op: op, Subject: keyID, Cause: err}
	}
	if code, ok := errors.AsType[smithy.APIError](err); ok {
		if known, ok := kinds[code.ErrorCode()]; ok {
			return &fault.Error{Kind: known.kind, Op: op, Subject: keyID, Detail: known.detail, Cause: err}
		}
	}
	return &fault.Error{Kind: fault.Unavailable, Op: op, Subject: keyID, Detail: "the KMS cannot be asked", Cause: err}
}

// refused is failure for the use of a key. KMSInvalidStateException stands for
// keys about to be deleted and for keys whose external store is away: the key's
// state tells them apart.
func (k *Keyring) refused(ctx context.Context, op, keyID string, err error) error {
	found := failure(ctx, op, keyID, err)
	if _, ok := errors.AsType[*types.KMSInvalidStateException](err); !ok {
		return found
	}
	info, err := k.Resolve(ctx, keyID)
	if err != nil {
		return found
	}
	switch types.KeyState(info.State) {
	case types.KeyStateUnavailable, types.KeyStateCreating, types.KeyStateUpdating:
		found.Kind, found.Detail = fault.Unavailable, "the KMS key's store cannot be reached"
	case types.KeyStatePendingDeletion:
		found.Detail = "the KMS key is about to be deleted"
	case types.KeyStateDisabled:
		found.Detail = "the KMS key is disabled"
	}
	return found
}

// unsound is an answer that cannot be.
func unsound(op, keyID, what string) error {
	return &fault.Error{Kind: fault.FailedDependency, Op: op, Subject: keyID, Detail: "the KMS answered with " + what}
}
