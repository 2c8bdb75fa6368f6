// Package gdrive is the kind google_drive: files in Google Drive, as a user who
// consented, as a service account, or as a user whom a service account acts for.
//
// A decoded config and the connector's token flow in; the config with a fresh
// access token flows out as the backend. Imports take Google's credentials files
// apart. The connection test asks who the token is for, looks at the folder or
// shared drive and, when asked, makes and deletes an empty file; it goes through
// the process' egress policy. It imports package providers and the helpers that
// Google's kinds share; minting is providers/oauth's.
package gdrive
