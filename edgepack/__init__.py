"""What an edgepack is: the contract that the workstation and the device share.

Names, errors, the OCI layout and registry client, signatures, bundles, desired and reported state. Both ends import
this package; it imports none of the others.
"""

__version__ = "0.1.0"
