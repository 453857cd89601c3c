"""Who the device is: its key, made once on the device, and the file that a workstation takes it from."""
