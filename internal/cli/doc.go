// Package cli is the logic of the command line: it reads records, Services and events, and prints them as
// tables or JSON; it checks an installation, and puts its CustomResourceDefinitions in force.
package cli
