package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki is the certificate authority of a lab. Its files are in the folder pki of the lab's state.
type pki struct {
	dir   string
	ca    *x509.Certificate
	caPEM []byte
	key   crypto.Signer
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// newPKI makes the authority, the API server's certificate and the key that signs service account tokens.
func newPKI(dir string, addresses []net.IP) (*pki, error) {
	p := &pki{dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	authority := &x509.Certificate{Subject: pkix.Name{CommonName: "lanyard-lab"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	certPEM, key, err := p.sign(authority)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certPEM)
	if p.ca, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	p.key, p.caPEM = key, certPEM
	server := &x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}, IPAddresses: addresses,
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	serverPEM, serverKey, err := p.sign(server)
	if err != nil {
		return nil, err
	}
	accounts, err := newKey()
	if err != nil {
		return nil, err
	}
	return p, errors.Join(
		os.WriteFile(p.path("ca.crt"), certPEM, 0o644),
		os.WriteFile(p.path("apiserver.crt"), serverPEM, 0o644),
		p.writeKey("apiserver.key", serverKey),
		p.writeKey("service-accounts.key", accounts))
}

// client makes a client certificate for a user in groups, and its key, both as PEM.
func (p *pki) client(user string, groups ...string) (cert, key []byte, err error) {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	cert, signer, err := p.sign(template)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(signer)
	return cert, key, err
}

// sign makes a key and a certificate for it; the very first, the authority's, signs itself.
func (p *pki) sign(template *x509.Certificate) (certPEM []byte, key crypto.Signer, err error) {
	if key, err = newKey(); err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate serial: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	template.KeyUsage |= x509.KeyUsageDigitalSignature
	parent, signer := p.ca, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate of %s: %w", template.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, nil
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func (p *pki) writeKey(name string, key crypto.Signer) error {
	raw, err := keyPEM(key)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path(name), raw, 0o600)
}
