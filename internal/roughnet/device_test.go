//go:build linux

package roughnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"
)

const (
	deviceName = "wire"
	mtu        = 1500
)

// An ifreq is the argument of ioctls on network devices.
type ifreq struct {
	name [syscall.IFNAMSIZ]byte
	data [24]byte
}

func request(name string) *ifreq {
	r := &ifreq{}
	copy(r.name[:], name)
	return r
}

func (r *ifreq) flags(f uint16) *ifreq {
	*(*uint16)(unsafe.Pointer(&r.data)) = f
	return r
}

// addr is a struct sockaddr_in.
func (r *ifreq) addr(a netip.Addr) *ifreq {
	*(*uint16)(unsafe.Pointer(&r.data)) = syscall.AF_INET
	four := a.As4()
	copy(r.data[4:], four[:])
	return r
}

func (r *ifreq) do(fd int, what uintptr) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

// openDevice sets up the namespace's network: the loopback interface, and a TUN device whose
// packets are read from and written to the file.
func openDevice(a netip.Addr) (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	device := os.NewFile(uintptr(fd), deviceName)
	if err := request(deviceName).flags(syscall.IFF_TUN|syscall.IFF_NO_PI).do(fd, syscall.TUNSETIFF); err != nil {
		device.Close()
		return nil, fmt.Errorf("making a network device: %w", err)
	}
	for _, name := range []string{"lo", deviceName} {
		if err := configure(request(name).flags(syscall.IFF_UP|syscall.IFF_RUNNING), syscall.SIOCSIFFLAGS); err != nil {
			device.Close()
			return nil, fmt.Errorf("setting %s up: %w", name, err)
		}
	}
	return device, setAddr(a)
}

// setAddr replaces the device's address. The device routes to all of 10.0.0.0/24.
func setAddr(a netip.Addr) error {
	return errors.Join(
		configure(request(deviceName).addr(a), syscall.SIOCSIFADDR),
		configure(request(deviceName).addr(netip.AddrFrom4([4]byte{255, 255, 255, 0})), syscall.SIOCSIFNETMASK),
	)
}

func configure(r *ifreq, what uintptr) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return r.do(fd, what)
}

// sendFile and receiveFile pass a file to another process.
func sendFile(over *os.File, f *os.File) error {
	conn, err := fileConn(over)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _, err = conn.WriteMsgUnix([]byte{0}, syscall.UnixRights(int(f.Fd())), nil)
	return err
}

func receiveFile(over *os.File) (*os.File, error) {
	conn, err := fileConn(over)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	oob := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil, errors.Join(errors.New("no file came"), err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fds[0])
	// Non-blocking, so that reads occupy no thread and end with close.
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), deviceName), nil
}

func fileConn(f *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}
