package tds

import (
	"encoding/binary"
	"errors"
)

// smpHeader is the header of [MC-SMP], which carries the sessions of a MARS
// connection: id, flags, session, length, sequence number, window.
const (
	smpHeader = 16
	smpID     = 0x53
	smpData   = 0x08
)

var errFrame = errors.New("bytes that are no packet")

// walker follows the borders of packets in a stream without decoding them.
type walker struct {
	mars   bool
	within bool   // look at the packet in each frame of SMP, too
	inner  uint32 // the size of that one, when its header is the next to be read
	skip   uint32 // bytes of the current packet still to come
	have   uint8  // bytes of a header that was cut by a chunk's end
	open   bool   // within a message: its last packet is still to come
	head   [smpHeader]byte
}

// atBorder reports whether the last byte walked over ended a message.
func (w *walker) atBorder() bool { return w.skip == 0 && w.have == 0 && !w.open }

// packet is a header that a walker found.
type packet struct {
	kind, status byte
	spid         uint16
	first        bool // of its message
	end          int  // the offset where it ends; beyond the chunk if it does
}

// next walks from chunk[at:] to the next packet's header. ok is false when the
// chunk holds no further whole header. Frames of SMP that carry no packet are
// passed over.
func (w *walker) next(chunk []byte, at int) (p packet, start int, ok bool, err error) {
	for {
		size, frame := headerSize, w.mars && w.inner == 0
		if frame {
			size = smpHeader
		}
		if left := uint32(len(chunk) - at); w.skip >= left && w.skip > 0 {
			w.skip -= left
			return p, len(chunk), false, nil
		}
		at += int(w.skip)
		w.skip = 0
		n := copy(w.head[w.have:size], chunk[at:])
		at += n
		if w.have += uint8(n); int(w.have) < size {
			return p, at, false, nil
		}
		w.have = 0
		if frame {
			if err := w.frame(); err != nil {
				return p, at, false, err
			}
			continue
		}
		p, err := w.packet(at)
		return p, at, err == nil, err
	}
}

// packet reads the header that is complete.
func (w *walker) packet(at int) (packet, error) {
	n := binary.BigEndian.Uint16(w.head[2:])
	if n < headerSize || n > maxPacket || w.mars && uint32(n) != w.inner {
		return packet{}, errFrame
	}
	w.inner = 0
	p := packet{kind: w.head[0], status: w.head[1], spid: binary.BigEndian.Uint16(w.head[4:]), first: !w.open, end: at + int(n) - headerSize}
	w.skip = uint32(n) - headerSize
	w.open = p.status&statusEnd == 0
	return p, nil
}

// frame reads a frame's header. A frame of data carries one packet ([MC-SMP]
// leaves that to the protocol above; it is what all drivers send), of whichever
// of the sessions: of a client's it is looked at, so that nothing comes to the
// server within a frame that may not come without.
func (w *walker) frame() error {
	n := binary.LittleEndian.Uint32(w.head[4:])
	if w.head[0] != smpID || n < smpHeader || n > smpHeader+maxPacket {
		return errFrame
	}
	if w.head[1] != smpData && n != smpHeader {
		return errFrame
	}
	if w.within && w.head[1] == smpData {
		if w.inner = n - smpHeader; w.inner < headerSize {
			return errFrame
		}
		return nil
	}
	w.skip = n - smpHeader
	return nil
}
