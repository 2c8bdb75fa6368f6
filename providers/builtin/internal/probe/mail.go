package probe

import (
	"net/mail"

	"github.com/patchbay-dev/patchbay/providers"
)

// Subject and Text are the test message's. Text is plain ASCII, with one line.
const (
	Subject = "Connection test"
	Text    = "This message was sent by a connection test of Patchbay. Nothing needs to be done."
)

// Mail is whom a test message is from and to. Both are parsed addresses: written
// by their String method they stay on one header line, whatever was typed.
type Mail struct{ From, To *mail.Address }

// NewMail reads the sender and the recipient, each an address with or without a
// name; recipient "" is the sender. Where ok is false, o is the step's outcome:
// sender_missing without a sender, recipient_refused for what is no address.
func NewMail(sender, recipient string) (m Mail, o providers.Outcome, ok bool) {
	if sender == "" {
		return Mail{}, providers.Failed(providers.CodeSenderMissing,
			"This step needs a sender address. Fill in the sender, then test again."), false
	}
	from, err := mail.ParseAddress(sender)
	if err != nil {
		return Mail{}, providers.Failed(providers.CodeSenderRefused, "The configured sender is not a mail address."), false
	}
	if recipient == "" {
		return Mail{From: from, To: from}, providers.Outcome{}, true
	}
	to, err := mail.ParseAddress(recipient)
	if err != nil {
		return Mail{}, providers.Failed(providers.CodeRecipientRefused, "The recipient is not a mail address."), false
	}
	return Mail{From: from, To: to}, providers.Outcome{}, true
}
