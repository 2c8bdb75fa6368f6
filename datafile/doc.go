// Package datafile reads and writes data files: the records of gateway.tenant,
// res.organization, ir.connector and ir.connector.param as XML (the way EDE
// writes it), YAML or CSV.
//
// Bytes flow in by [Parse] and come out as a [File], every field with its line
// and column; [WriteXML] and [WriteYAML] turn a File back into text. CSV files
// that were given together are joined by [ParseUnit]. Nothing here is evaluated,
// expanded or looked up: a Python literal is parsed, never run, no entity or DTD
// is followed, and "$ENV:" is text like any other. What the records mean is
// package importer's business. The package imports internal packages only.
package datafile
