// Package pages runs the commands of the pages in docs/ for operators, as they stand there, against a cluster in the lab.
package pages
