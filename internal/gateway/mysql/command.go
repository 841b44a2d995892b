package mysql

// Commands: include/my_command.h of both servers.
const (
	comQuit             = 0x01
	comInitDB           = 0x02
	comQuery            = 0x03
	comFieldList        = 0x04
	comCreateDB         = 0x05
	comDropDB           = 0x06
	comRefresh          = 0x07
	comStatistics       = 0x09
	comProcessInfo      = 0x0a
	comProcessKill      = 0x0c
	comPing             = 0x0e
	comChangeUser       = 0x11
	comStmtPrepare      = 0x16
	comStmtExecute      = 0x17
	comStmtSendLongData = 0x18
	comStmtClose        = 0x19
	comStmtReset        = 0x1a
	comSetOption        = 0x1b
	comStmtFetch        = 0x1c
	comResetConnection  = 0x1f
)

// answer is the form of a command's answer.
type answer byte

const (
	unserved      answer = iota // the command is not passed on
	answerNone                  // none follows
	answerOK                    // OK, EOF or an error
	answerText                  // one packet of text
	answerResults               // results: OK, an error, or rows, and more of them
	answerPrepare               // a statement's description
	answerRows                  // rows without their description
	answerFields                // columns until an end
)

// answers has the commands that are passed on. The others are those of
// replication (0x12 to 0x15, 0x1e), of administration (0x08 COM_SHUTDOWN, 0x0d
// COM_DEBUG, 0x20 COM_CLONE), those that would make the session somebody
// else's (COM_CHANGE_USER), those of capabilities that are not offered
// (MariaDB's 0xfa and 0xfe) and those that servers refuse anyway.
var answers = [256]answer{
	comInitDB: answerOK, comQuery: answerResults, comFieldList: answerFields, comCreateDB: answerOK, comDropDB: answerOK,
	comRefresh: answerOK, comStatistics: answerText, comProcessInfo: answerResults, comProcessKill: answerOK, comPing: answerOK,
	comStmtPrepare: answerPrepare, comStmtExecute: answerResults, comStmtSendLongData: answerNone, comStmtClose: answerNone,
	comStmtReset: answerOK, comSetOption: answerOK, comStmtFetch: answerRows, comResetConnection: answerOK,
}
