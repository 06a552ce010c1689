// Package crd holds the CustomResourceDefinitions of Lanyard's API, which controller-gen writes beside it.
package crd

import "embed"

// Files are the CustomResourceDefinitions, a YAML file each.
//
//go:embed *.yaml
var Files embed.FS
