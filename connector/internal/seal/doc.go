// Package seal encrypts small secrets with a key that is made from a random text,
// which only somebody else keeps: whoever reads what is stored can't open it.
//
// It may import nothing of the project but secret, and is for package connector.
package seal
