package membership

import (
	"bytes"
	"crypto/sha256"
	"errors"

	"github.com/hashicorp/memberlist"
)

// newKeyring makes the AES-256 key of the gossip: the SHA-256 sum of the key file's content without
// white space around it, so that any length does and a final newline is no trap. A plain sum adds no
// strength: the content should be random, such as 32 bytes in base64. Nil content gives a nil keyring.
func newKeyring(content []byte) (*memberlist.Keyring, error) {
	if content == nil {
		return nil, nil
	}
	secret := bytes.TrimSpace(content)
	if len(secret) == 0 {
		return nil, errors.New("gossip key is blank: its file must hold a secret, the same on every node")
	}
	sum := sha256.Sum256(secret)
	return memberlist.NewKeyring(nil, sum[:])
}
