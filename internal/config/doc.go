// Package config reads the one YAML file and its environment, strictly.
//
// A file, an environment and flags flow in; a typed [Config] comes out, or every
// problem at once, each with its key's path and its place. Nothing here opens a
// connection: reaching what a config names is the business of the commands.
// Credentials are never in a config, only the paths of files that hold them;
// [ReadSecret] turns such a path into a secret.Value. The package imports
// internal leaves only and is imported by cmd and tests.
package config
